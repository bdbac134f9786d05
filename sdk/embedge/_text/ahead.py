"""Tokenising ahead of the devices: prompts arrive in pieces while earlier ones are computed."""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar, overload

import numpy as np

from embedge._text.tokens import Encoded, EncodedRows, Positions
from embedge._workers import LaneFailure, Stop
from embedge._workers import start as begin

LaneT = TypeVar("LaneT")
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")

FROM_PROMPTS = 4096
"""Fewer prompts are tokenised at once: their tokenising takes less time than it would save."""
PIECE = 2048
_FIRST_PIECE = 1024
_PIECE_SIZE = 2**21
"""Limit on the sizes of a piece's prompts together, as what the tokenizer makes of them takes room."""
_JOBS_AHEAD = 64
_RESULTS_AHEAD = 3


class ArrivingRows(Sequence[Encoded]):
    """Prompts that are tokenised piece by piece, those that look longest first, as they are asked for.

    Args:
        sizes: what the prompts' numbers of tokens are expected to go with, such as their characters.
        encode: tokenises the prompts at some positions.
        ahead: pieces to tokenise, in threads of their own, while one is used. With one, the processors would have
            nothing to do while Python is at a piece's texts before and after the tokenizer.
    """

    def __init__(
        self, sizes: Sequence[int], encode: Callable[[list[int]], EncodedRows], ahead: int = 2
    ) -> None:
        self._encode = encode
        self._ahead = ahead
        given = np.asarray(sizes, dtype=np.int64)
        self._order = np.argsort(-given, kind="stable")
        self._total_sizes = np.cumsum(given[self._order])
        self._pieces: list[EncodedRows] = []
        # piece of each prompt, and its place there; -1 before it arrived
        self._piece_of = np.full(len(sizes), -1, dtype=np.int64)
        self._place_of = np.zeros(len(sizes), dtype=np.int64)
        self._begun: collections.deque[tuple[Positions, Callable[[], EncodedRows]]] = collections.deque()

    def arrivals(self) -> Generator[tuple[Positions, EncodedRows], None, None]:
        """Tokenise what has not been tokenised yet. Who may stop early has to close it, which ends its threads.

        Yields:
            Positions of a piece's prompts, and their tokens; all pieces from the first on.

        Raises:
            PromptError: from `encode`.
        """
        index = 0
        start = 0
        try:
            while start < len(self._order):
                if index == len(self._pieces):
                    self._next(self._ahead)
                piece = self._pieces[index]
                yield self._order[start : start + len(piece)], piece
                index += 1
                start += len(piece)
        finally:
            self._abandon()

    def _next(self, ahead: int) -> None:
        """Wait for the next piece, more of them begun."""
        while len(self._begun) <= ahead:
            positions = self._following()
            if not len(positions):
                break
            encode = partial(self._encode, positions.tolist())
            self._begun.append((positions, begin(encode) if ahead else encode))
        positions, wait = self._begun.popleft()
        piece = wait()
        self._place_of[positions] = np.arange(len(positions))
        self._pieces.append(piece)
        self._piece_of[positions] = len(self._pieces) - 1

    def _following(self) -> Positions:
        """Prompts of the piece after those that arrived or were begun; the first pieces are small."""
        sizes = [len(piece) for piece in self._pieces] + [len(positions) for positions, _ in self._begun]
        start = sum(sizes)
        most = min(PIECE, max(_FIRST_PIECE, 2 * sizes[-1] if sizes else 0))
        before = self._total_sizes[start - 1] if start else 0
        end = int(np.searchsorted(self._total_sizes, before + _PIECE_SIZE, side="right"))
        return self._order[start : max(start + 1, min(start + most, end))]

    def _abandon(self) -> None:
        while self._begun:
            _, wait = self._begun.pop()
            with contextlib.suppress(Exception):
                wait()

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> list[Encoded]: ...
    def __getitem__(self, index: int | slice) -> Encoded | list[Encoded]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        while self._piece_of[index] < 0:
            self._next(ahead=0)
        return self._pieces[self._piece_of[index]][int(self._place_of[index])]


def deal(
    jobs: Generator[JobT, None, None],
    compute: Callable[[LaneT, JobT], ResultT],
    lanes: Sequence[LaneT],
    survives: Callable[[LaneT, BaseException], bool],
) -> Iterator[ResultT]:
    """Compute jobs in several threads, one per lane, while further jobs are made in another one.

    Only some jobs are made ahead, and no more than one result per lane waits for the consumer. When a job fails for
    good, the making of jobs raises, or the consumer stops early, all threads end after what they are at.

    Args:
        jobs: computed in about this order; closed at the end.
        compute: called with a thread's lane and a job.
        lanes: what each thread computes with.
        survives: whether the run goes on without a lane whose job raised; the job is then done by another lane.

    Yields:
        Results in the order in which they finish.
    """
    run = _Run(jobs, compute, lanes)
    try:
        yield from run.results(survives)
    finally:
        run.stop()


class _Run(Generic[LaneT, JobT, ResultT]):
    def __init__(
        self,
        jobs: Generator[JobT, None, None],
        compute: Callable[[LaneT, JobT], ResultT],
        lanes: Sequence[LaneT],
    ) -> None:
        self._jobs = jobs
        self._compute = compute
        self._pending: queue.SimpleQueue[JobT | Stop] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[ResultT | LaneFailure[LaneT, JobT] | _Made] = queue.SimpleQueue()
        self._ahead = threading.Semaphore(_JOBS_AHEAD)
        self._room = threading.Semaphore(_RESULTS_AHEAD * len(lanes))
        self._stopped = threading.Event()
        self._alive = len(lanes)
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"embedge-lane-{i}", daemon=True)
            for i, lane in enumerate(lanes)
        ]
        self._threads.append(threading.Thread(target=self._make, name="embedge-ahead", daemon=True))
        for thread in self._threads:
            thread.start()

    def _make(self) -> None:
        count = 0
        try:
            with contextlib.closing(self._jobs) as jobs:
                for job in jobs:
                    self._ahead.acquire()
                    if self._stopped.is_set():
                        return
                    self._pending.put(job)
                    count += 1
        except BaseException as error:
            self._finished.put(_Made(count, error))
            return
        self._finished.put(_Made(count, None))

    def _work(self, lane: LaneT) -> None:
        while True:
            self._room.acquire()
            job = self._pending.get()
            if self._stopped.is_set() or isinstance(job, Stop):
                return
            self._ahead.release()
            try:
                self._finished.put(self._compute(lane, job))
            except BaseException as error:
                self._finished.put(LaneFailure(error, lane, job))
                return

    def results(self, survives: Callable[[LaneT, BaseException], bool]) -> Iterator[ResultT]:
        done, total = 0, None
        while total is None or done < total:
            result = self._finished.get()
            if isinstance(result, _Made):
                if result.error is not None:
                    raise result.error
                total = result.count
                continue
            self._room.release()
            if isinstance(result, LaneFailure):
                self._alive -= 1
                if not survives(result.lane, result.error) or self._alive == 0:
                    raise result.error
                self._pending.put(result.job)
                continue
            done += 1
            yield result

    def stop(self) -> None:
        self._stopped.set()
        for _ in self._threads:
            self._pending.put(Stop())
        self._room.release(len(self._threads))
        self._ahead.release()
        for thread in self._threads:
            thread.join()


class _Made:
    def __init__(self, count: int, error: BaseException | None) -> None:
        self.count = count
        self.error = error
