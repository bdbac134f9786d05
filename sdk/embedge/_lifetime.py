"""The end of a process and its forks: what runs on threads or outside of Python ends before the interpreter does.

Python ends daemon threads by never running them again. One that waits in C++ or Rust at that moment takes the process
down with it, and one that somebody waits for hangs it. So, when all other threads have ended, the main thread tells
every computation to stop, waits for what is outside of Python to come back, and lets nothing else go there.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

from embedge.errors import SessionError

_PATIENCE_S = 60.0
"""For a run or a load that is under way; then the process ends as Python ends it."""


class Stoppable(Protocol):
    """A computation on threads that somebody waits for."""

    def stop_soon(self) -> None:
        """Let its threads end after what they are at; returns at once, and may be called often."""
        ...


class Forkable(Protocol):
    """What a child process cannot use as it is."""

    def forget_parent(self) -> None:
        """Called in the child, right after the fork."""
        ...


class _Lifetime:
    def __init__(self) -> None:
        self.reset()
        self.forkable: weakref.WeakSet[Forkable] = weakref.WeakSet()

    def reset(self) -> None:
        """As at the start of a process: a child has none of its parent's threads."""
        self.ending = False
        self.outside = 0
        self.returned = threading.Condition()
        self.stoppable: weakref.WeakSet[Stoppable] = weakref.WeakSet()
        self.threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    def end(self) -> None:
        """Stop everything, and wait until nothing of ours is outside of Python."""
        with self.returned:
            self.ending = True
            running, threads = list(self.stoppable), list(self.threads)
        for each in running:
            each.stop_soon()
        with self.returned:
            self.returned.wait_for(lambda: self.outside == 0, _PATIENCE_S)
        for thread in threads:
            thread.join(_PATIENCE_S)


_LIFE = _Lifetime()


def ending() -> bool:
    """Whether the process ends: threads are no longer begun, and all work is done by who asks for it."""
    return _LIFE.ending or sys.is_finalizing() or _refuses_threads()


def _refuses_threads() -> bool:
    """Whether Python begins no more threads: 3.12 refuses once the main thread is done, in handlers at exit, too."""
    return sys.version_info[:2] == (3, 12) and not threading.main_thread().is_alive()


def begin_thread(work: Callable[[], None], name: str) -> threading.Thread:
    """Begin a thread that does not keep the process alive, and that its end waits for.

    Args:
        work: what it does; it has to end once the computation that it is part of is stopped.
        name: of the thread.

    Raises:
        SystemExit: the process ends; who asks for the thread is one that nobody waits for.
        SessionError: the system has no further thread.
    """
    life = _LIFE
    thread = threading.Thread(target=work, name=name, daemon=True)
    with life.returned:
        if life.ending or _refuses_threads():
            raise SystemExit
        try:
            thread.start()
        except RuntimeError as error:
            raise SessionError(
                f"the system gives this process no further thread ({error}); {threading.active_count()} run. "
                "Make fewer calls at a time, load the model with fewer threads, or raise the limit (ulimit -u)."
            ) from error
        life.threads.add(thread)
    return thread


def stop_at_end(running: Stoppable) -> None:
    """Have a computation stopped when the process ends, if it is still there."""
    with _LIFE.returned:
        _LIFE.stoppable.add(running)


def renew_after_fork(held: Forkable) -> None:
    """Have an object told that it is in a child process now, if it is still there."""
    _LIFE.forkable.add(held)


class _Outside:
    """See outside_python; it has no state of its own, so that one serves all, and costs half of a generator."""

    def __enter__(self) -> None:
        life = _LIFE
        with life.returned:
            if life.ending and threading.current_thread() is not threading.main_thread():
                raise SystemExit
            life.outside += 1

    def __exit__(self, *_: object) -> None:
        life = _LIFE
        with life.returned:
            life.outside -= 1
            if life.ending:
                life.returned.notify_all()


_OUTSIDE = _Outside()


def outside_python() -> contextlib.AbstractContextManager[None]:
    """Around calls into C++ and Rust that let other threads run.

    Raises:
        SystemExit: the process ends, and this is not its main thread: a thread ends by it without a word.
    """
    return _OUTSIDE


@contextlib.contextmanager
def freed_on_failure() -> Iterator[None]:
    """Around what builds something large: an error that leaves it holds nothing of what was built.

    Its traceback stays; the variables of the functions in it are let go of, those of its causes, too.
    """
    try:
        yield
    except BaseException as raised:
        seen: set[int] = set()
        waiting: list[BaseException | None] = [raised]
        while waiting:
            error = waiting.pop()
            if error is None or id(error) in seen:
                continue
            seen.add(id(error))
            place = error.__traceback__
            while place is not None:
                with contextlib.suppress(RuntimeError):  # it runs
                    place.tb_frame.clear()
                place = place.tb_next
            waiting += [error.__cause__, error.__context__]
        del error, waiting
        raise


def _in_child() -> None:
    _LIFE.reset()
    for held in list(_LIFE.forkable):
        held.forget_parent()


# the first to be registered is the last to run: handlers of the application still find everything as it was
atexit.register(_LIFE.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
