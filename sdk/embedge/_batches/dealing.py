"""Jobs dealt to lanes, with results as they finish. onnxruntime and numpy release the GIL meanwhile."""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Generic, TypeAlias, TypeVar

import msgspec

from embedge._cancelling import LOOK_S, Halt, check_call
from embedge._lifetime import begin_thread, ending, stop_at_end

LaneT = TypeVar("LaneT")
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")
Survives: TypeAlias = Callable[[LaneT, BaseException], bool]

_JOBS_AHEAD = 64
"""Limit on jobs that are made and not begun."""
_RESULTS_PER_LANE = 1
"""Limit on results under way or waiting, for jobs that are there from the start."""
_RESULTS_PER_LANE_AHEAD = 3
"""The same for jobs that are made meanwhile: lanes must not stand still while the consumer is at a result."""


def deal(
    jobs: Sequence[JobT] | Generator[JobT, None, None],
    compute: Callable[[LaneT, JobT], ResultT],
    lanes: Sequence[LaneT],
    survives: Survives[LaneT] | None = None,
) -> Generator[ResultT, None, None]:
    """Compute jobs in several threads, one per lane.

    Results wait for the consumer in a bounded number, and so do jobs that are made ahead. When a job fails for good,
    when making the jobs fails, or when the consumer stops early (an exception, Ctrl-C, the end of its call), all
    threads end, and runs under way are told to end. Close the generator to stop early.

    Args:
        jobs: taken in this order. A generator is run in a thread of its own, ahead of the lanes, and closed at the end.
        compute: called with a thread's lane and a job.
        lanes: what each thread computes with. With one lane, or a sequence of one job or none, all runs in the
            caller's thread, and so it does when the process ends.
        survives: whether the run goes on without a lane whose job raised; the job is then done by another lane.
            None: it never does.

    Yields:
        Results in the order in which they finish.

    Raises:
        CallCancelledError, DeadlineError: the call is to end.
    """
    if len(lanes) == 1 or ending() or (isinstance(jobs, Sequence) and len(jobs) <= 1):
        yield from _in_turn(jobs, compute, lanes[0])
        return
    dealing = _Dealing(jobs, compute, lanes)
    try:
        dealing.begin()
        yield from dealing.results(survives)
    finally:
        dealing.stop()


def _in_turn(
    jobs: Sequence[JobT] | Generator[JobT, None, None], compute: Callable[[LaneT, JobT], ResultT], lane: LaneT
) -> Generator[ResultT, None, None]:
    try:
        for job in jobs:
            check_call()
            yield compute(lane, job)
    finally:
        if isinstance(jobs, Generator):
            jobs.close()


class _AllMade(msgspec.Struct, frozen=True):
    """The end of the jobs: how many there are, and what making further ones raised."""

    count: int
    error: BaseException | None = None


class _Failed(msgspec.Struct, Generic[LaneT, JobT], frozen=True):
    """A job that raised, and where."""

    error: BaseException
    lane: LaneT
    job: JobT


class _Stop:
    """Ends a thread that waits for a job."""


class _Dealing(Generic[LaneT, JobT, ResultT]):
    """The threads of one run, and what they share; they run until `stop`."""

    def __init__(
        self,
        jobs: Sequence[JobT] | Generator[JobT, None, None],
        compute: Callable[[LaneT, JobT], ResultT],
        lanes: Sequence[LaneT],
    ) -> None:
        self._compute = compute
        self._pending: queue.SimpleQueue[JobT | _Stop] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[ResultT | _Failed[LaneT, JobT] | _AllMade] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._ahead = threading.Semaphore(_JOBS_AHEAD)
        works: list[tuple[Callable[[], None], str]] = []
        if isinstance(jobs, Sequence):
            lanes = lanes[: len(jobs)]
            for job in jobs:
                self._pending.put(job)
            self._finished.put(_AllMade(len(jobs)))
            per_lane = _RESULTS_PER_LANE
        else:
            works.append((partial(self._make, jobs), "embedge-ahead"))
            per_lane = _RESULTS_PER_LANE_AHEAD
        self._room = threading.Semaphore(per_lane * len(lanes))
        self._lanes_left = len(lanes)
        works += [(partial(self._work, lane), f"embedge-worker-{i}") for i, lane in enumerate(lanes)]
        self._works = works
        self._threads: list[threading.Thread] = []
        self._halt = Halt()

    def begin(self) -> None:
        """Begin the threads; each works for the caller's call."""
        stop_at_end(self)
        for work, name in self._works:
            context = contextvars.copy_context()
            self._threads.append(begin_thread(partial(context.run, self._halted, work), name))

    def _halted(self, work: Callable[[], None]) -> None:
        with self._halt.entered():
            work()

    def _make(self, jobs: Generator[JobT, None, None]) -> None:
        count = 0
        try:
            with contextlib.closing(jobs):
                for job in jobs:
                    self._ahead.acquire()
                    if self._stopped.is_set():
                        return
                    self._pending.put(job)
                    count += 1
        except BaseException as error:
            self._finished.put(_AllMade(count, error))
            return
        self._finished.put(_AllMade(count))

    def _work(self, lane: LaneT) -> None:
        while True:
            self._room.acquire()
            job = self._pending.get()
            if self._stopped.is_set() or isinstance(job, _Stop):
                return
            self._ahead.release()
            try:
                self._finished.put(self._compute(lane, job))
            except BaseException as error:
                self._finished.put(_Failed(error, lane, job))
                return

    def results(self, survives: Survives[LaneT] | None) -> Generator[ResultT, None, None]:
        """What the lanes compute, until every job has a result."""
        done, total = 0, None
        while total is None or done < total:
            check_call()
            try:
                result = self._finished.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if isinstance(result, _AllMade):
                if result.error is not None:
                    try:
                        raise result.error
                    finally:
                        del result  # the error holds this frame, which would hold the error
                total = result.count
                continue
            self._room.release()
            if isinstance(result, _Failed):
                self._lanes_left -= 1
                if survives is None or not survives(result.lane, result.error) or not self._lanes_left:
                    try:
                        raise result.error
                    finally:
                        del result
                self._pending.put(result.job)
                continue
            done += 1
            yield result

    def stop(self) -> None:
        """End all threads, and what they are at."""
        self.stop_soon()
        for thread in self._threads:
            thread.join()
        self._works.clear()  # they hold this one in a circle, and the model with it

    def stop_soon(self) -> None:
        """See Stoppable."""
        self._stopped.set()
        self._halt.stop_soon()
        for _ in self._works:
            self._pending.put(_Stop())
        if self._works:  # none are left where it was stopped before the process ends
            self._room.release(len(self._works))
        self._ahead.release()
        # whoever still waits for a result when the process ends
        self._finished.put(_AllMade(0, SystemExit()))
