"""Tokenising ahead of the devices: prompts arrive in pieces while earlier ones are computed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np

from embedge._tokens import Encoded, EncodedRows, Positions
from embedge._workers import LaneFailure, Stop

LaneT = TypeVar("LaneT")
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")

FROM_PROMPTS = 4096
"""Fewer prompts are tokenised at once: their tokenising takes less time than it would save."""
_FIRST_PIECE = 1024
_PIECE = 4096
_JOBS_AHEAD = 64


class ArrivingRows(Sequence[Encoded]):
    """Prompts that are tokenised piece by piece, those that look longest first, as they are asked for.

    Args:
        sizes: what the prompts' numbers of tokens are expected to go with, such as their characters.
        encode: tokenises the prompts at some positions.
    """

    def __init__(self, sizes: Sequence[int], encode: Callable[[list[int]], EncodedRows]) -> None:
        self._encode = encode
        self._order = np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable")
        self._pieces: list[EncodedRows] = []
        # piece of each prompt, and its place there; -1 before it arrived
        self._piece_of = np.full(len(sizes), -1, dtype=np.int64)
        self._place_of = np.zeros(len(sizes), dtype=np.int64)
        self._arrived = 0

    def arrivals(self) -> Iterator[tuple[Positions, EncodedRows]]:
        """Tokenise what has not been tokenised yet.

        Yields:
            Positions of a piece's prompts, and their tokens; all pieces from the first on.

        Raises:
            PromptError: from `encode`.
        """
        start = 0
        for piece in list(self._pieces):
            yield self._order[start : start + len(piece)], piece
            start += len(piece)
        while self._arrived < len(self._order):
            yield self._next()

    def _next(self) -> tuple[Positions, EncodedRows]:
        start = self._arrived
        size = min(_PIECE, max(_FIRST_PIECE, 2 * len(self._pieces[-1]) if self._pieces else 0))
        positions = self._order[start : start + size]
        piece = self._encode(positions.tolist())
        self._place_of[positions] = np.arange(len(positions))
        self._pieces.append(piece)
        self._piece_of[positions] = len(self._pieces) - 1
        self._arrived += len(positions)
        return positions, piece

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
            self._next()
        return self._pieces[self._piece_of[index]][int(self._place_of[index])]


def deal(
    jobs: Iterable[JobT],
    compute: Callable[[LaneT, JobT], ResultT],
    lanes: Sequence[LaneT],
    survives: Callable[[LaneT, BaseException], bool],
) -> Iterator[ResultT]:
    """Compute jobs in several threads, one per lane, while further jobs are made in another one.

    Only some jobs are made ahead, and no more than one result per lane waits for the consumer. When a job fails for
    good, the making of jobs raises, or the consumer stops early, all threads end after what they are at.

    Args:
        jobs: computed in about this order.
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
        self, jobs: Iterable[JobT], compute: Callable[[LaneT, JobT], ResultT], lanes: Sequence[LaneT]
    ) -> None:
        self._jobs = jobs
        self._compute = compute
        self._pending: queue.SimpleQueue[JobT | Stop] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[ResultT | LaneFailure[LaneT, JobT] | _Made] = queue.SimpleQueue()
        self._ahead = threading.Semaphore(_JOBS_AHEAD)
        self._room = threading.Semaphore(len(lanes))
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
            for job in self._jobs:
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
