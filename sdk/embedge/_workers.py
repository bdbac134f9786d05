"""Work ahead of its consumer, on threads: one computation, or a pipeline of them."""

from __future__ import annotations

import collections
import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Generic, TypeVar

from embedge._cancelling import LOOK_S, Halt, Stopped, check_call, current_halt
from embedge._lifetime import begin_thread, ending, stop_at_end

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")
PreparedT = TypeVar("PreparedT")
_UNDER_WAY = 2


class Begun(Generic[ResultT]):
    """A computation on a thread of its own, for the call that began it; called, it waits for the result."""

    def __init__(self, compute: Callable[[], ResultT]) -> None:
        self._compute = compute
        self._finished: queue.SimpleQueue[ResultT | _Failure] = queue.SimpleQueue()
        self._halt = Halt()
        stop_at_end(self._halt)
        # what the thread does belongs to the same call
        work = partial(contextvars.copy_context().run, self._work)
        self._thread = begin_thread(work, "embedge-ahead")

    def _work(self) -> None:
        with self._halt.entered():
            try:
                self._finished.put(self._compute())
            except BaseException as error:
                self._finished.put(_Failure(error))

    def __call__(self) -> ResultT:
        """The result, or what computing it raised.

        Raises:
            CallCancelledError, DeadlineError: the call is to end; call `abandon` then.
        """
        while True:
            try:
                result = self._finished.get(timeout=LOOK_S)
            except queue.Empty:
                check_call()
                continue
            break
        self._thread.join()
        if isinstance(result, _Failure):
            try:
                # nobody is told when the process ends: a thread ends by SystemExit without a word
                raise SystemExit if ending() and isinstance(result.error, Stopped) else result.error
            finally:
                del result  # the error holds this frame, which would hold the error
        return result

    def stop_soon(self) -> None:
        """End the computation as early as it can be ended."""
        self._halt.stop_soon()

    def abandon(self) -> None:
        """The same, and wait for its end."""
        self._halt.stop_soon()
        self._thread.join()


class AtOnce(Generic[ResultT]):
    """A computation that is done by who waits for it."""

    def __init__(self, compute: Callable[[], ResultT]) -> None:
        self._compute = compute

    def __call__(self) -> ResultT:
        return self._compute()

    def stop_soon(self) -> None:
        """It has not begun."""

    def abandon(self) -> None:
        """Likewise."""


Waited = Begun[ResultT] | AtOnce[ResultT]


def start(compute: Callable[[], ResultT]) -> Waited[ResultT]:
    """Begin a computation on a thread of its own; when the process ends, do it when it is waited for.

    Returns:
        A function that waits for the result, or raises what compute raised; its `abandon` ends it early.
    """
    return AtOnce(compute) if ending() else Begun(compute)


def interruptibly(compute: Callable[[], ResultT], *, leave: bool = False) -> ResultT:
    """Compute on another thread where the caller waits in this one, so that it can be ended meanwhile.

    Ctrl-C and a call's end are answered while compute is in C++: a run of onnxruntime is told to end.

    Args:
        compute: what to do.
        leave: do not wait for the end of what cannot be told.

    Raises:
        CallCancelledError, DeadlineError: the call is to end.
    """
    if current_halt() is not None and not leave:  # a thread that somebody waits for, and can end
        return compute()
    check_call()
    begun = start(compute)
    try:
        return begun()
    except BaseException:
        begun.stop_soon() if leave else begun.abandon()
        raise


def pipeline(
    items: Iterator[ItemT], prepare: Callable[[ItemT], PreparedT], compute: Callable[[PreparedT], ResultT]
) -> Generator[ResultT]:
    """Prepare and compute items ahead of the consumer, in order.

    While the consumer is at one result, the next is computed and the one after that is prepared; no more than two
    items are under way, so memory does not grow with their number.

    Args:
        items: taken in the consumer's thread.
        prepare: called on a thread of its own, while an earlier item is computed.
        compute: called for one item at a time.

    Yields:
        One result per item. An error of an item, or of items itself, comes after the results of all earlier items.
    """
    waiting: collections.deque[Waited[ResultT]] = collections.deque()
    last_done = threading.Event()
    last_done.set()

    def work(item: ItemT, turn: threading.Event, done: threading.Event) -> ResultT:
        try:
            prepared = prepare(item)
            turn.wait()
            check_call()
            return compute(prepared)
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
                result = waiting[0]()
                waiting.popleft()
                yield result
        while waiting:
            result = waiting[0]()
            waiting.popleft()
            yield result
        if failure is not None:
            raise failure
    finally:
        for each in waiting:
            each.stop_soon()
        for each in waiting:
            each.abandon()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
