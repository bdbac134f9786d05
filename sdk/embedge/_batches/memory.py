"""What a run takes of the memory, known before it is taken; and the share of it that the runs of a model get."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import msgspec

from embedge._cancelling import LOOK_S, check_call
from embedge._lifetime import ending, renew_after_fork
from embedge._machine.own_memory import give_back
from embedge.errors import PromptError

_MIB = 1 << 20
_FLOAT_BYTES = 4
_SCORES = 3
"""As in `attention`: scores, masked scores and their softmax."""
_KEPT = 1.5
"""What is taken of the system for each byte that is alive: the rest lies between what is. 1.2 measured."""
_ALWAYS_BYTES = 4 * _MIB
"""Of any run."""


_WORTH_BYTES = 16 * _MIB
"""What a smaller run leaves is not asked for: that takes milliseconds."""


class BatchMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch takes on the CPU.

    Attributes:
        numbers_per_token: alive at once, see GraphFacts.
        score_heads: see manifest.Variant; 0 where attention works in blocks.
        prefix_heads: the same of texts after a prefix, see manifest.PrefixSpec.
        limit_bytes: for all batches that run at once.
        prefix_bytes: of the caller's limit, for prefixes that are kept beside them.
    """

    numbers_per_token: int
    score_heads: int
    limit_bytes: int
    prefix_heads: int = 0
    prefix_bytes: int = 0

    def needed_bytes(self, num_rows: int, seq_len: int, before: int = 0) -> int:
        """Of a batch of so many rows of so many tokens, after a prefix of some."""
        heads = self.prefix_heads if before else self.score_heads
        numbers = self.numbers_per_token * seq_len + _SCORES * heads * seq_len * (seq_len + before)
        return _ALWAYS_BYTES + int(_KEPT * _FLOAT_BYTES * numbers * num_rows)

    def most_rows(self, seq_len: int, before: int = 0) -> int:
        """Rows of that length that fit into the limit; one at least, as `check` refuses what does not."""
        row = self.needed_bytes(1, seq_len, before) - _ALWAYS_BYTES
        return max(1, (self.limit_bytes - _ALWAYS_BYTES) // max(1, row))

    def check(self, seq_len: int, index: int, before: int = 0) -> None:
        """Refuse a text that does not fit by itself.

        Args:
            seq_len: its tokens, padding included.
            index: the prompt.
            before: tokens of the prefix that it comes after.

        Raises:
            PromptError: it takes more than the limit.
        """
        needed = self.needed_bytes(1, seq_len, before)
        if needed > self.limit_bytes:
            fits = self._longest()
            limit, kept = (self.limit_bytes + self.prefix_bytes) // _MIB, self.prefix_bytes / _MIB
            beside = (
                f" beside {kept:.2g} MB of prefixes (enable_prefix_caching=False keeps none)" if kept else ""
            )
            raise PromptError(
                f"prompt {index} has {seq_len:,} tokens, which take about {needed / _MIB:,.0f} MB; max_memory_mb="
                f"{limit} is enough for {fits:,} tokens{beside}. Cut it with truncate_prompt_tokens, or "
                "load the model with a larger max_memory_mb.",
                index=index,
            )

    def _longest(self) -> int:
        """Tokens of the longest text that fits."""
        fits, beyond = 0, 1 << 24
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if self.needed_bytes(1, middle) <= self.limit_bytes:
                fits = middle
            else:
                beyond = middle
        return fits


class Share:
    """Memory that the runs of a model have together: one that does not fit beside others waits for them.

    Args:
        limit_bytes: for all; no run asks for more.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.forget_parent()
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._changed = threading.Condition()
        self._taken = 0

    @contextlib.contextmanager
    def taking(self, num_bytes: int) -> Iterator[None]:
        """Around a run.

        Raises:
            Stopped, CallCancelledError, DeadlineError: the call is to end.
        """
        with self._changed:
            while self._taken and self._taken + num_bytes > self._limit_bytes and not ending():
                self._changed.wait(LOOK_S)
                check_call()
            self._taken += num_bytes
        try:
            yield
        finally:
            if num_bytes >= _WORTH_BYTES:
                give_back()
            with self._changed:
                self._taken -= num_bytes
                self._changed.notify_all()
