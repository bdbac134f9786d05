"""Small calls that come at the same time run together; one that comes alone runs at once, in its own thread.

A call that finds a worker free takes it. Others wait until one becomes free; then the first of them takes it, and with
it its share of those that wait, so that something is left for the next worker to become free: with all of them it would
find nothing, and then run the first one that comes alone. So nobody waits for company, and there is more of it the
busier the workers are.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from embedge._cancelling import LOOK_S, check_call
from embedge._lifetime import ending, renew_after_fork
from embedge._text.tokens import Encoded
from embedge.types import FloatArray, IntArray

AskedT = TypeVar("AskedT")
Ran = tuple[FloatArray, IntArray]
"""A graph's output for some prompts, and attention_mask (batch, seq_len)."""
_WASTE = 1.5
"""Limit on the padded tokens of joined calls, as a multiple of their own: beyond it they are faster one by one."""
_NICE = 10
"""A tenth of a processor for which somebody else has use, all of one for which nobody has."""


class _Waiting(Generic[AskedT]):
    """A call that waits for a worker, or for the call that took it along."""

    def __init__(self, asked: AskedT, prompts: Sequence[Encoded]) -> None:
        self.asked = asked
        self.prompts = prompts
        counts = [len(each.token_ids) for each in prompts]
        self.longest, self.shortest, self.num_tokens = max(counts), min(counts), sum(counts)
        self.alone = False
        self.told: queue.SimpleQueue[Ran | int] = queue.SimpleQueue()
        """The answer, or the worker that is free for it."""


class SmallCalls(Generic[AskedT]):
    """The calls of one batch each, of one model.

    Args:
        run: computes what is asked of prompts as one batch, with the worker of a number where there are several calls,
            and with all processors where there is one.
        num_workers: how many batches may run at once.
        fits: whether so many rows are one batch, by what is asked and the tokens of the longest and the shortest.
    """

    def __init__(
        self,
        run: Callable[[AskedT, Sequence[Encoded], int | None], Ran],
        num_workers: int,
        fits: Callable[[AskedT, int, int, int], bool],
    ) -> None:
        self._run = run
        self._num_workers = num_workers
        self._fits = fits
        self.forget_parent()
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._lock = threading.Lock()
        self._free = list(range(self._num_workers))
        self._waiting: collections.deque[_Waiting[AskedT]] = collections.deque()
        self._came = 0

    def run(self, asked: AskedT, prompts: Sequence[Encoded]) -> Ran:
        """Compute prompts, maybe together with those of which other threads ask the same.

        Raises:
            CallCancelledError, DeadlineError: the call is to end.
            SessionError: onnxruntime failed.
        """
        if ending():
            return self._run(asked, prompts, None)
        worker = alone = mine = None
        with self._lock:
            self._came += 1
            alone = len(self._free) == self._num_workers
            if self._free:
                worker = self._free.pop()
            else:
                mine = _Waiting(asked, prompts)
                self._waiting.append(mine)
        if mine is not None:
            told = self._wait(mine)
            return self._lead(mine, told) if isinstance(told, int) else told
        assert worker is not None
        try:
            return self._run(asked, prompts, None if alone else worker)
        finally:
            self._hand_over(worker)

    @property
    def came(self) -> int:
        """How many calls there were."""
        return self._came

    def _wait(self, mine: _Waiting[AskedT]) -> Ran | int:
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    return mine.told.get(timeout=LOOK_S)
                check_call()
        except BaseException:
            with self._lock:
                with contextlib.suppress(ValueError):  # somebody took it along
                    self._waiting.remove(mine)
                told = None if mine.told.empty() else mine.told.get()
            if isinstance(told, int):
                self._hand_over(told)
            raise

    def _lead(self, mine: _Waiting[AskedT], worker: int) -> Ran:
        """Run with all those who wait and suit."""
        try:
            with self._lock:
                others = self._suiting(mine)
            if not others:
                return self._run(mine.asked, mine.prompts, worker)
            try:
                return self._run_together([mine, *others], worker)
            except BaseException:
                # it is of one of them, or of this call's end: each tries by itself
                with self._lock:
                    for each in others:
                        each.alone = True
                    self._waiting.extendleft(reversed(others))
                check_call()
                return self._run(mine.asked, mine.prompts, worker)
        finally:
            self._hand_over(worker)

    def _run_together(self, calls: Sequence[_Waiting[AskedT]], worker: int) -> Ran:
        """Answer the calls after the first one, and return the answer of that."""
        prompts = [prompt for each in calls for prompt in each.prompts]
        array, mask = self._run(calls[0].asked, prompts, worker)
        ends = np.cumsum([len(each.prompts) for each in calls]).tolist()
        parts = [slice(end - len(each.prompts), end) for each, end in zip(calls, ends, strict=True)]
        for each, part in zip(calls[1:], parts[1:], strict=True):
            # an array of its own does not keep the others' in memory
            each.told.put((array[part].copy(), mask[part]))
        return array[parts[0]].copy(), mask[parts[0]]

    def _suiting(self, mine: _Waiting[AskedT]) -> list[_Waiting[AskedT]]:
        """Take out of the waiting what runs with a call: its share of them, nearest in length."""
        if mine.alone:
            return []
        suiting = [each for each in self._waiting if not each.alone and each.asked == mine.asked]
        share = math.ceil((1 + len(suiting)) / self._num_workers)
        taken: list[_Waiting[AskedT]] = []
        count, longest, tokens = len(mine.prompts), mine.longest, mine.num_tokens
        shortest = mine.shortest
        for each in sorted(suiting, key=lambda each: abs(each.longest - mine.longest)):
            if len(taken) + 1 >= share:
                break
            rows, seq_len = count + len(each.prompts), max(longest, each.longest)
            least = min(shortest, each.shortest)
            if self._fits(mine.asked, rows, seq_len, least) and rows * seq_len <= _WASTE * (
                tokens + each.num_tokens
            ):
                taken.append(each)
                count, longest, shortest, tokens = rows, seq_len, least, tokens + each.num_tokens
        for each in taken:
            self._waiting.remove(each)
        return taken

    def _hand_over(self, worker: int) -> None:
        """Give the worker to who waits longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().told.put(worker)
            else:
                self._free.append(worker)


def yield_priority() -> None:
    """Let other threads of the process come before this one, from now on, where the system can."""
    if sys.platform == "linux":  # pragma: no branch
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
