"""Work ahead of its consumer, on threads: one computation, a pipeline of them, or a method for asyncio."""

from __future__ import annotations

import collections
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any, ParamSpec, TypeVar

from embedge._lifetime import begin_thread, ending, stop_at_end

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")
PreparedT = TypeVar("PreparedT")
_UNDER_WAY = 2


def start(compute: Callable[[], ResultT]) -> Callable[[], ResultT]:
    """Begin a computation on a thread of its own; when the process ends, do it when it is waited for.

    Returns:
        A function that waits for the result, or raises what compute raised.
    """
    if ending():
        return compute
    finished: queue.SimpleQueue[ResultT | _Failure] = queue.SimpleQueue()

    def work() -> None:
        try:
            finished.put(compute())
        except BaseException as error:
            finished.put(_Failure(error))

    thread = begin_thread(work, "embedge-ahead")

    def wait() -> ResultT:
        result = finished.get()
        thread.join()
        if isinstance(result, _Failure):
            # nobody is told when the process ends: a thread ends by SystemExit without a word
            raise SystemExit if ending() and isinstance(result.error, Stopped) else result.error
        return result

    return wait


class Halt:
    """An event that is set when its consumer has gone, or when the process ends."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def stop_soon(self) -> None:
        """Set it."""
        self.stopped.set()


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
    halt = Halt()
    stopped = halt.stopped
    stop_at_end(halt)
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
            with contextlib.suppress(Exception, SystemExit):
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
