"""Jobs over worker threads, with results as they finish. onnxruntime and numpy release the GIL meanwhile."""

from __future__ import annotations

import collections
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
LaneT = TypeVar("LaneT")
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")
PreparedT = TypeVar("PreparedT")
_UNDER_WAY = 2


def run_jobs(
    jobs: Sequence[JobT],
    compute: Callable[[LaneT, JobT], ResultT],
    lanes: Sequence[LaneT],
    survives: Callable[[LaneT, BaseException], bool] | None = None,
) -> Iterator[ResultT]:
    """Compute jobs in several threads, one per lane, dealt from one queue.

    No more than one result per lane waits for the consumer. When a job fails for good, or the consumer stops early
    (an exception, Ctrl-C), the threads end after the job they are at.

    Args:
        jobs: taken in this order.
        compute: called with a thread's lane and a job.
        lanes: what each thread computes with; with one lane, or with one job or none, all runs in the caller's thread.
        survives: whether the run goes on without a lane whose job raised; the job is then done by another lane.
            None: it never does.

    Yields:
        Results in the order in which they finish.
    """
    if len(lanes) == 1 or len(jobs) <= 1:
        for job in jobs:
            yield compute(lanes[0], job)
        return
    pending: queue.SimpleQueue[JobT | Stop] = queue.SimpleQueue()
    for job in jobs:
        pending.put(job)
    finished: queue.SimpleQueue[ResultT | LaneFailure[LaneT, JobT]] = queue.SimpleQueue()
    room = threading.Semaphore(len(lanes))
    stopped = threading.Event()

    def work(lane: LaneT) -> None:
        while True:
            room.acquire()
            job = pending.get()
            if stopped.is_set() or isinstance(job, Stop):
                return
            try:
                finished.put(compute(lane, job))
            except BaseException as error:
                finished.put(LaneFailure(error, lane, job))
                return

    workers = [
        threading.Thread(target=work, args=(lane,), name=f"embedge-worker-{i}", daemon=True)
        for i, lane in enumerate(lanes[: len(jobs)])
    ]
    for worker in workers:
        worker.start()
    left, alive = len(jobs), len(workers)
    try:
        while left:
            result = finished.get()
            room.release()
            if isinstance(result, LaneFailure):
                alive -= 1
                if alive == 0 or survives is None or not survives(result.lane, result.error):
                    raise result.error
                pending.put(result.job)
                continue
            left -= 1
            yield result
    finally:
        stopped.set()
        for _ in workers:
            pending.put(Stop())
        room.release(len(workers))
        for worker in workers:
            worker.join()


def start(compute: Callable[[], ResultT]) -> Callable[[], ResultT]:
    """Begin a computation on a thread of its own.

    Returns:
        A function that waits for the result, or raises what compute raised.
    """
    finished: queue.SimpleQueue[ResultT | _Failure] = queue.SimpleQueue()

    def work() -> None:
        try:
            finished.put(compute())
        except BaseException as error:
            finished.put(_Failure(error))

    thread = threading.Thread(target=work, name="embedge-ahead", daemon=True)
    thread.start()

    def wait() -> ResultT:
        result = finished.get()
        thread.join()
        if isinstance(result, _Failure):
            raise result.error
        return result

    return wait


class Stopped(Exception):  # noqa: N818  # no error: it ends what nobody waits for
    """Raised by a computation whose consumer has gone; never seen by users."""


def pipeline(
    items: Iterator[ItemT],
    prepare: Callable[[ItemT], PreparedT],
    compute: Callable[[PreparedT, threading.Event], ResultT],
) -> Generator[ResultT]:
    """Prepare and compute items ahead of the consumer, in order.

    While the consumer is at one result, the next is computed and the one after that is prepared; no more than two
    items are under way, so memory does not grow with their number.

    Args:
        items: taken in the consumer's thread.
        prepare: called on a thread of its own, while an earlier item is computed.
        compute: called for one item at a time; ends early, by raising, once the event is set.

    Yields:
        One result per item. An error of an item, or of items itself, comes after the results of all earlier items.
    """
    stopped = threading.Event()
    waiting: collections.deque[Callable[[], ResultT]] = collections.deque()
    last_done = threading.Event()
    last_done.set()

    def work(item: ItemT, turn: threading.Event, done: threading.Event) -> ResultT:
        try:
            prepared = prepare(item)
            turn.wait()
            if stopped.is_set():
                raise Stopped
            return compute(prepared, stopped)
        finally:
            done.set()

    failure: Exception | None = None
    try:
        while True:
            try:
                item = next(items, None)
            except Exception as error:  # the caller's iterator may raise anything
                failure = error
                break
            if item is None:
                break
            done = threading.Event()
            waiting.append(start(partial(work, item, last_done, done)))
            last_done = done
            if len(waiting) == _UNDER_WAY:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()
        if failure is not None:
            raise failure
    finally:
        stopped.set()
        for wait in waiting:
            with contextlib.suppress(Exception):
                wait()


def in_thread(verb: Callable[P, ResultT]) -> Callable[P, Coroutine[Any, Any, ResultT]]:
    """The asyncio form of a method: the same arguments and result, computed off the event loop."""

    @functools.wraps(verb)
    async def call(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        import asyncio  # costs as much at import as all of embedge

        return await asyncio.to_thread(verb, *args, **kwargs)

    return call


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class LaneFailure(Generic[LaneT, JobT]):
    """A job that raised, and where."""

    def __init__(self, error: BaseException, lane: LaneT, job: JobT) -> None:
        self.error = error
        self.lane = lane
        self.job = job


class Stop:
    """Ends a thread that waits for a job."""
