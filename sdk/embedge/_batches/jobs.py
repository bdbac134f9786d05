"""The batches of a call: which prompts run together, and what they come after."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._batches.feeding import Feeds
from embedge._batches.fitting import Fitting
from embedge._batches.prefixes import Prefix, Prefixes
from embedge._batches.turns import Turns
from embedge._cancelling import check_call
from embedge._sessions.on_cpu import LARGE_CALL_BATCHES, CpuSessions
from embedge._sessions.on_devices import DeviceSessions
from embedge._sessions.session import Lane, Session
from embedge._sessions.tuning import longest_share
from embedge._text.ahead import ArrivingRows
from embedge._text.padding import Indices
from embedge._text.tokens import EncodedRows
from embedge._workers import interruptibly
from embedge.manifest import PREFIX_TOKENS, made_names, prefix_names
from embedge.types import FloatArray

ResultT = TypeVar("ResultT")
_SOON_DONE_TOKENS = 256
"""Fewer padded tokens are computed before anybody could wish for their end; another thread would cost them more."""


class Job(msgspec.Struct, frozen=True):
    """A batch to run.

    Attributes:
        rows: prompts.
        chosen: the batch's among them.
        positions: of the batch's prompts in the call.
        prefix: what they come after, which is no longer part of them.
    """

    rows: EncodedRows
    chosen: Indices
    positions: Indices
    prefix: Prefix | None = None


class Asked(msgspec.Struct, frozen=True):
    """What small calls have in common that run together."""

    output: str
    prefix: Prefix | None

    @property
    def before(self) -> int:
        """Tokens before the prompts."""
        return 0 if self.prefix is None else self.prefix.num_tokens


class CallPlanning:
    """Plans the calls of a graph.

    Args:
        fitting: the limits of its batches.
        sessions: the loaded graph.
        prefixes: those that are computed once, where the graph takes them.
        turns: of the runs that do not join others, on the CPU.
    """

    def __init__(
        self,
        fitting: Fitting,
        sessions: CpuSessions | DeviceSessions,
        prefixes: Prefixes | None,
        turns: Turns | None,
    ) -> None:
        self._fitting = fitting
        self._sessions = sessions
        self._prefixes = prefixes
        self._turns = turns

    def planned(self, rows: EncodedRows, lead: Sequence[int]) -> tuple[list[Job], Sequence[Lane]]:
        """The batches of a call, longest first, and the lanes that compute them; none for a call of one batch.

        What follows a prefix is shorter than all else mostly, so that it comes last.
        """
        every = np.arange(len(rows))
        after = np.zeros(0, dtype=np.intp)
        jobs: list[Job] = []
        if lead and self._prefixes is not None:
            chosen = self._prefixes.chosen(rows, lead)
            after = np.flatnonzero(chosen)
            every = np.flatnonzero(~chosen)
        if len(after):
            self._fitting.check(len(lead), int(after[0]))
            prefix = self._prefix(lead)
            rows = rows.without(after, np.zeros_like(after), np.full_like(after, prefix.num_tokens))
            planned = self._evenly(rows.num_tokens[after], after, prefix.num_tokens)
            jobs = [Job(rows, after[part], after[part], prefix) for part in planned]
        counts = rows.num_tokens[every]
        planned = self._evenly(counts, every)
        jobs = [*(Job(rows, every[part], every[part]) for part in planned), *jobs]
        if len(jobs) == 1:
            return jobs, ()
        batch_tokens = [_padded_tokens(job.rows.num_tokens[job.chosen]) for job in jobs]
        lanes = self._sessions.lanes(batch_tokens)
        at_once = self._fitting.num_lanes(counts, planned, len(lanes), every)
        return jobs, self._sessions.lanes(batch_tokens[:1]) if at_once == 1 else lanes[:at_once]

    def _evenly(
        self, num_tokens: npt.NDArray[np.int32], positions: Indices, before: int = 0
    ) -> list[Indices]:
        """Batches as Fitting.plan cuts them; a few so that workers which share them end together."""
        planned = self._fitting.plan(num_tokens, positions, before)
        workers = self._sessions.num_workers if isinstance(self._sessions, CpuSessions) else 1
        if workers == 1 or not 1 < len(planned) < LARGE_CALL_BATCHES:
            return planned

        def tokens(batches: Sequence[Indices]) -> list[int]:
            return [_padded_tokens(num_tokens[batch]) for batch in batches]

        rounds = -(-len(planned) // workers)
        each = -(-sum(tokens(planned)) // (workers * rounds))
        even = self._fitting.plan(num_tokens, positions, before, at_most=each)
        return min(planned, even, key=lambda batches: longest_share(tokens(batches), workers))

    def _prefix(self, lead: Sequence[int]) -> Prefix:
        """What follows these tokens comes after; computed where it is not kept."""
        assert self._prefixes is not None
        assert self._turns is not None
        layers = range(self._prefixes.spec.num_layers)

        def compute() -> dict[str, FloatArray]:
            ids = np.array([lead], dtype=np.int64)
            feeds = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                PREFIX_TOKENS: np.array([len(lead)]),
            }
            lane = self._sessions.lanes([len(lead)])[0]
            assert isinstance(lane, Session)
            made = [name for layer in layers for name in made_names(layer)]
            with self._fitting.running(*ids.shape):
                arrays = in_time(partial(lane.run_for, made, feeds), feeds)
            return dict(zip((name for layer in layers for name in prefix_names(layer)), arrays, strict=True))

        return self._prefixes.get(lead, compute, self._turns.turn)

    def arriving(self, encoded: ArrivingRows) -> Generator[Job, None, None]:
        """The batches of prompts that are tokenised meanwhile. Close the generator to stop early."""
        with closing(encoded.arrivals()) as arrivals:
            for positions, rows in arrivals:
                for chosen in self._fitting.plan(rows.num_tokens):
                    yield Job(rows, chosen, positions[chosen])


def _padded_tokens(num_tokens: npt.NDArray[np.int32]) -> int:
    """Of a batch whose prompts have so many tokens."""
    return len(num_tokens) * int(num_tokens.max())


def in_time(run: Callable[[], ResultT], feeds: Feeds) -> ResultT:
    """Run a batch; a large one so that it can be ended meanwhile."""
    if feeds["input_ids"].size < _SOON_DONE_TOKENS:
        check_call()
        return run()
    return interruptibly(run)
