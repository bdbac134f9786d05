"""The calls that a model is at, so that closing it can wait for them or end them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from embedge._calls.options import EndOptions, is_seconds
from embedge._cancelling import CancelScope, current_scope
from embedge._lifetime import renew_after_fork
from embedge.errors import DeviceMemoryError, ParamsError, SessionError

OpenedT = TypeVar("OpenedT")


class InFlight(Generic[OpenedT]):
    """Around one call.

    Args:
        calls: that it is one of.
        scope: what it is computed in.
        opened: gives what it is asked of.

    Raises:
        SessionError: the model is closed, or the interpreter shuts down.
        DeviceMemoryError: the machine has no memory left.
        CallCancelledError, DeadlineError: the call is to end already.
    """

    def __init__(self, calls: CallsInFlight, scope: CancelScope, opened: Callable[[], OpenedT]) -> None:
        self._calls, self._scope, self._opened = calls, scope, opened

    def __enter__(self) -> OpenedT:
        self._calls.enter(self._scope)
        try:
            with self._scope:
                self._scope.check()
                opened = self._opened()
            self._scope.__enter__()
        except BaseException:
            self._calls.leave(self._scope)
            raise
        return opened

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._scope.__exit__(kind, error, trace)
        finally:
            self._calls.leave(self._scope)
        if isinstance(error, MemoryError):
            raise DeviceMemoryError(
                "the machine has no memory left for this call; nothing is returned, and the model goes on working. "
                "Pass fewer prompts at a time, or free memory.",
                device="cpu",
            ) from error


class CallsInFlight:
    """The calls of one model.

    Args:
        name: of the model, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._closed = False
        self.forget_parent()
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._changed = threading.Condition()
        self._scopes: set[CancelScope] = set()

    def call(self, options: EndOptions, opened: Callable[[], OpenedT]) -> InFlight[OpenedT]:
        """Around a call, which ends early as its options say; gives what is opened then."""
        return InFlight(self, options.scope(), opened)

    def enter(self, scope: CancelScope) -> None:
        """Count a call in; errors are those of `check_open`."""
        with self._changed:
            self.check_open()
            self._scopes.add(scope)

    def leave(self, scope: CancelScope) -> None:
        """Count a call out."""
        with self._changed:
            self._scopes.discard(scope)
            self._changed.notify_all()

    def check_open(self) -> None:
        """Refuse what comes too late.

        Raises:
            SessionError: the model is closed, or the interpreter shuts down.
        """
        if self._closed:
            raise SessionError(f"the model {self._name!r} is closed; load it again with EdgeModel(...)")
        if sys.is_finalizing():
            raise SessionError(
                "the interpreter is shutting down, and parts of it are gone; expected calls before that. Call the "
                "model in a handler of atexit, not in __del__."
            )

    def close(self, timeout_s: float | None) -> None:
        """Refuse further calls and wait for those in flight; those that take longer than the timeout end early.

        Raises:
            ParamsError: a timeout that is no number of at least 0.
        """
        if timeout_s is not None and not is_seconds(timeout_s, or_none=True):
            raise ParamsError(f"timeout_s={timeout_s!r} is not possible; expected seconds, or None")
        with self._changed:
            self._closed = True
            if not self._changed.wait_for(lambda: not self._others(), timeout_s):
                for scope in self._others():
                    scope.cancel(
                        f"the model {self._name!r} was closed while the call ran; nothing is returned"
                    )
                self._changed.wait_for(lambda: not self._others())

    def _others(self) -> list[CancelScope]:
        """All but the call that closes the model itself."""
        here = current_scope()
        return [scope for scope in self._scopes if not scope.holds(here)]
