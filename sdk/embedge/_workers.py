"""Jobs over worker threads, with results as they finish. onnxruntime and numpy release the GIL meanwhile."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


def run_jobs(jobs: Sequence[JobT], compute: Callable[[JobT], ResultT], num_workers: int) -> Iterator[ResultT]:
    """Compute jobs in several threads.

    No more than num_workers results wait for the consumer. When a job fails, or the consumer stops early (an
    exception, Ctrl-C), the workers end after the job they are at.

    Args:
        jobs: taken in this order.
        compute: called from the workers.
        num_workers: threads; with 1, or with one job or none, everything runs in the caller's.

    Yields:
        Results in the order in which they finish.
    """
    if num_workers == 1 or len(jobs) <= 1:
        yield from map(compute, jobs)
        return
    stopped = threading.Event()
    pending = iter(jobs)
    taking = threading.Lock()
    finished: queue.SimpleQueue[ResultT | _Failure] = queue.SimpleQueue()
    room = threading.Semaphore(num_workers)

    def work() -> None:
        while True:
            room.acquire()
            with taking:
                job = next(pending, _NO_JOB)
            if stopped.is_set() or isinstance(job, _NoJob):
                return
            try:
                finished.put(compute(job))
            except BaseException as error:
                finished.put(_Failure(error))
                return

    workers = [
        threading.Thread(target=work, name=f"embedge-worker-{i}", daemon=True)
        for i in range(min(num_workers, len(jobs)))
    ]
    for worker in workers:
        worker.start()
    try:
        for _ in range(len(jobs)):
            result = finished.get()
            if isinstance(result, _Failure):
                raise result.error
            room.release()
            yield result
    finally:
        stopped.set()
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

    threading.Thread(target=work, name="embedge-ahead", daemon=True).start()

    def wait() -> ResultT:
        result = finished.get()
        if isinstance(result, _Failure):
            raise result.error
        return result

    return wait


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


class _NoJob:
    pass


_NO_JOB = _NoJob()
