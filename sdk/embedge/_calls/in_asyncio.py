"""The asyncio forms of the verbs: computed on threads of their own, which a cancelled call gives back."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import itertools
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from embedge._calls.options import is_seconds
from embedge._cancelling import CancelScope, past_deadline
from embedge._lifetime import begin_thread, ending, renew_after_fork, stop_at_end

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

_MOST_THREADS = 16
_MOST_LARGE = 8
"""Calls of many prompts that may be computed at once; the other threads are kept for those of a few."""
_FEW = 16
"""Up to so many prompts a call is one that somebody waits for, and comes before larger ones."""
_IDLE_S = 0.25


class CallThreads:
    """Computes calls, so many at a time: small ones first, each kind in its order.

    A thread for which nothing waits stays a moment, as beginning one holds up the event loop, and then ends.

    Args:
        most: threads.
        most_large: of these, how many may be at large calls.
    """

    def __init__(self, most: int = _MOST_THREADS, most_large: int = _MOST_LARGE) -> None:
        self._most, self._most_large = most, most_large
        self.forget_parent()
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._lock = threading.Lock()
        self._small: collections.deque[Callable[[], None]] = collections.deque()
        self._large: collections.deque[Callable[[], None]] = collections.deque()
        self._threads = 0
        self._at_large = 0
        self._idle = 0
        """Threads that wait, less those that are woken already."""
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        stop_at_end(self)

    def submit(self, work: Callable[[], None], *, large: bool) -> None:
        """Have a call computed; work must not raise."""
        with self._lock:
            (self._large if large else self._small).append(work)
            if large and self._at_large == self._most_large:
                return
            if self._idle and not ending():
                self._wake(1)
                return
            if self._threads == self._most:
                return
            self._threads += 1
        try:
            begin_thread(self._work, "embedge-call")
        except BaseException:
            with self._lock:
                self._threads -= 1
                (self._large if large else self._small).remove(work)
            raise

    def stop_soon(self) -> None:
        """See Stoppable."""
        with self._lock:
            self._wake(self._idle)

    def _wake(self, number: int) -> None:
        self._idle -= number
        for _ in range(number):
            self._woken.put(None)

    def _work(self) -> None:
        at_large = False
        while True:
            with self._lock:
                self._at_large -= at_large
                at_large = not self._small and bool(self._large) and self._at_large < self._most_large
                if ending():
                    self._threads -= 1
                    return
                work = None
                if self._small or at_large:
                    self._at_large += at_large
                    work = self._large.popleft() if at_large else self._small.popleft()
                else:
                    self._idle += 1
            if work is not None:
                work()
                del work  # holds the call's prompts and result
            elif not self._is_woken():
                return

    def _is_woken(self) -> bool:
        """Wait a moment for a call; False where the thread is to end."""
        try:
            self._woken.get(timeout=_IDLE_S)
        except queue.Empty:
            with self._lock:
                if self._idle:
                    self._idle -= 1
                    self._threads -= 1
                    return False
            self._woken.get()  # woken in the same moment
        return True


_THREADS = CallThreads()


def in_threads(verb: Callable[P, ResultT]) -> Callable[P, Coroutine[Any, Any, ResultT]]:
    """The asyncio form of a verb: the same arguments, result and errors, computed off the event loop.

    A cancelled call ends at its next batch, and its deadline counts from here.
    """

    @functools.wraps(verb)
    async def call(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        large = any(map(_is_large, itertools.chain(args, kwargs.values())))
        deadline_s: Any = kwargs.get("deadline_s")
        return await computed(functools.partial(verb, *args, **kwargs), large=large, deadline_s=deadline_s)

    return call


async def computed(
    compute: Callable[[], ResultT], *, large: bool, deadline_s: Any = None, threads: CallThreads = _THREADS
) -> ResultT:
    """Compute on one of the threads for calls.

    Args:
        compute: a call of a verb; it works in a copy of the caller's context.
        large: see CallThreads.
        deadline_s: seconds after which nobody waits for it, if that is a positive number; compute refuses others.
        threads: where.

    Raises:
        DeadlineError: it is not done in time.
    """
    import asyncio  # costs as much at import as all of embedge

    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()
    scope = CancelScope()
    context = contextvars.copy_context()

    def in_scope() -> ResultT:
        with scope:
            scope.check()
            return compute()

    def work() -> None:
        try:
            result = context.run(in_scope)
        except BaseException as error:
            _settle(future, functools.partial(future.set_exception, error))
        else:
            _settle(future, functools.partial(future.set_result, result))

    threads.submit(work, large=large)
    try:
        if is_seconds(deadline_s):
            done, _ = await asyncio.wait([future], timeout=deadline_s)
            if not done:
                raise past_deadline(deadline_s)
        return await future
    finally:
        scope.cancel("the call was cancelled")
        # nobody waits any more; asyncio would log an error that comes later, or came in the same moment
        if not future.cancel() and not future.cancelled():
            future.exception()


def _settle(future: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    def once() -> None:
        if not future.done():
            settle()

    with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits
        future.get_loop().call_soon_threadsafe(once)


def _is_large(argument: object) -> bool:
    """Whether an argument is many prompts, or may be."""
    if hasattr(argument, "__next__"):
        return True
    if isinstance(argument, (str, bytes, dict)) or not hasattr(argument, "__len__"):
        return False
    with contextlib.suppress(Exception):  # the caller's own type
        return len(argument) > _FEW
    return False
