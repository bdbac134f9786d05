"""What ends a call early: a deadline, its caller's wish, a closed model; and how runs under way hear of it.

A call opens a `CancelScope`. Whoever works or waits for the call asks `check` now and then; threads that work for it
are begun in a copy of its context, so that they ask the same scope. A `Halt` goes the other way: whoever begins threads
tells what they have under way in C++ that nobody waits for it any more.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token

from embedge.errors import CallCancelledError, DeadlineError, EmbedgeError

LOOK_S = 0.02
"""How often who waits for a call looks whether it is to end."""

_SCOPE: ContextVar[CancelScope | None] = ContextVar("embedge_scope", default=None)
_HALT: ContextVar[Halt | None] = ContextVar("embedge_halt", default=None)


class CancelScope:
    """One call that may be ended early; entered by the thread that makes the call.

    A scope made inside of another one ends with it, and counts its time from the other's beginning.

    Args:
        deadline_s: seconds from the beginning; None sets none.
        asked: whether the caller wants it to end; None never does.
    """

    def __init__(self, deadline_s: float | None = None, asked: Callable[[], bool] | None = None) -> None:
        self._parent = _SCOPE.get()
        self.begun: float = time.monotonic() if self._parent is None else self._parent.begun
        self._deadline_s = deadline_s
        self._asked = asked
        self._reason: str | None = None
        self._tokens: list[Token[CancelScope | None]] = []

    def __enter__(self) -> CancelScope:
        self._tokens.append(_SCOPE.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _SCOPE.reset(self._tokens.pop())

    def cancel(self, reason: str) -> None:
        """End the call from another thread, at its next batch."""
        self._reason = reason

    def check(self) -> None:
        """Go on, or raise what ends the call.

        Raises:
            CallCancelledError: the caller wants it to end, or somebody else called `cancel`.
            DeadlineError: its time is over.
        """
        error = self.problem()
        try:
            if error is not None:
                raise error
        finally:
            del error  # it holds this frame

    def problem(self) -> EmbedgeError | None:
        """What `check` raises."""
        if self._reason is not None:
            return CallCancelledError(self._reason)
        if self._asked is not None and self._asked():
            return CallCancelledError(
                "the call was cancelled by its cancel=...; nothing is returned, and the model goes on working"
            )
        if self._deadline_s is not None and time.monotonic() >= self.begun + self._deadline_s:
            return past_deadline(self._deadline_s)
        return None if self._parent is None else self._parent.problem()

    def holds(self, other: CancelScope | None) -> bool:
        """Whether a scope is this one or was made inside of it."""
        while other is not None:
            if other is self:
                return True
            other = other._parent
        return False


def past_deadline(deadline_s: float) -> DeadlineError:
    """The error of a call that takes longer than it may."""
    return DeadlineError(
        f"the call was not done after deadline_s={deadline_s:g}; nothing is returned, and the model goes on working. "
        "Pass fewer or shorter prompts, or a later deadline."
    )


def current_scope() -> CancelScope | None:
    """The scope of the call that this thread works for."""
    return _SCOPE.get()


def check_call() -> None:
    """Go on, or raise what ends the call that this thread works for.

    Raises:
        Stopped: who began this thread does not wait for it any more.
        CallCancelledError, DeadlineError: see CancelScope.check.
    """
    halt = _HALT.get()
    if halt is not None and halt.stopped.is_set():
        raise Stopped
    scope = _SCOPE.get()
    if scope is not None:
        scope.check()


class Stopped(Exception):  # noqa: N818  # no error: it ends what nobody waits for
    """Raised by a computation whose consumer has gone; never seen by users."""


class Halt:
    """Says to threads, and to what they have under way in C++, that nobody waits for them any more."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._under_way: set[Callable[[], None]] = set()

    def stop_soon(self) -> None:
        """See Stoppable."""
        self.stopped.set()
        with self._lock:
            for end in self._under_way:
                end()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Around what a thread does."""
        token = _HALT.set(self)
        try:
            yield
        finally:
            _HALT.reset(token)

    @contextlib.contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Around a run that `end` ends, from any thread and at any time."""
        with self._lock:
            self._under_way.add(end)
            if self.stopped.is_set():
                end()
        try:
            yield
        finally:
            with self._lock:
                self._under_way.remove(end)


def current_halt() -> Halt | None:
    """Who says when this thread is to end; None where its caller waits in it."""
    return _HALT.get()
