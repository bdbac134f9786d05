"""Tokens that the prompts of a call begin with, computed once: the last few prefixes are kept for later calls.

Which tokens these are is known before the prompts are: what a template or a stored prompt puts before every text. So
whether a prompt's prefix is computed apart, and with it the last digits of its answer, depends on nothing but itself
and what stands before it: neither on the other prompts of its call nor on earlier calls.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._lifetime import renew_after_fork
from embedge._text.tokens import EncodedRows
from embedge.manifest import PrefixSpec
from embedge.types import FloatArray

_LEAST_TOKENS = 16
"""Shorter prefixes save less than the second run costs."""
_MOST_AFTER = 512
"""Tokens of a text after a prefix: the scores of longer ones would fill the memory, and they gain little."""
_TIMES = 8
"""A text that is longer than so many prefixes gains nothing."""
_FLOAT_BYTES = 4


class Prefix(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A prefix that was computed.

    Attributes:
        num_tokens: of it.
        feeds: its keys and values by the graph's inputs.
    """

    num_tokens: int
    feeds: dict[str, FloatArray]


class Prefixes:
    """The prefixes of a graph, in bounded memory.

    Args:
        spec: how the graph takes them.
        limit_bytes: for those that are kept; none is larger.

    Attributes:
        spec, limit_bytes: likewise.
    """

    def __init__(self, spec: PrefixSpec, limit_bytes: int) -> None:
        self.spec = spec
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[bytes, Prefix] = OrderedDict()
        self.forget_parent()
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._lock = threading.Lock()

    @property
    def kept_bytes(self) -> int:
        """What the kept ones take."""
        with self._lock:
            return sum(self._size_bytes(each.num_tokens) for each in self._kept.values())

    def chosen(self, rows: EncodedRows, lead: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Which prompts are computed after a prefix, one entry for each.

        Args:
            rows: the prompts.
            lead: the prefix.
        """
        num_tokens = len(lead)
        if num_tokens < _LEAST_TOKENS or self._size_bytes(num_tokens) > self.limit_bytes:
            return np.zeros(len(rows), dtype=bool)
        after = rows.num_tokens - num_tokens
        suits = (after >= 1) & (after <= min(_MOST_AFTER, _TIMES * num_tokens))
        suits &= rows.begin_with(lead)
        if self.spec.passed_over_id is not None:
            suits &= rows.have_other(self.spec.passed_over_id, num_tokens)
        return suits

    def get(
        self,
        lead: Sequence[int],
        compute: Callable[[], dict[str, FloatArray]],
        turn: Callable[[], AbstractContextManager[None]],
    ) -> Prefix:
        """A prefix, computed where it is not kept.

        Threads that ask for it at the same time may compute it both: none waits for another's call, which may end.

        Args:
            lead: its tokens.
            compute: gives what feeds it.
            turn: around computing it; waits while as many runs are under way as memory is meant for.

        Raises:
            Stopped, CallCancelledError, DeadlineError: the call is to end.
        """
        key = np.asarray(lead, dtype=np.int32).tobytes()
        kept = self._found(key)
        if kept is not None:
            return kept
        with turn():
            kept = self._found(key)  # by who had the turn before
            if kept is None:
                kept = self._keep(key, Prefix(num_tokens=len(lead), feeds=compute()))
        return kept

    def _found(self, key: bytes) -> Prefix | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: bytes, made: Prefix) -> Prefix:
        """The same, or what another thread kept meanwhile."""
        with self._lock:
            made = self._kept.setdefault(key, made)
            self._kept.move_to_end(key)
            while sum(self._size_bytes(each.num_tokens) for each in self._kept.values()) > self.limit_bytes:
                self._kept.popitem(last=False)
        return made

    def _size_bytes(self, num_tokens: int) -> int:
        return _FLOAT_BYTES * self.spec.numbers_per_token * num_tokens
