"""Ctrl-C during an export: never in the middle of torch's start-up, and never lost; other signals end it tidily."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def put_off_interrupts() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: torch's start-up aborts the process when it is interrupted."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is None or threading.current_thread() is not threading.main_thread():
        yield  # not Python's to handle, or not in this thread
        return
    pressed = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed.is_set():
        signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def kept_interrupts() -> Iterator[Callable[[], None]]:
    """Remember Ctrl-C, which Python drops where it meets a destructor.

    Yields:
        A function that raises KeyboardInterrupt if Ctrl-C was pressed; to be called now and then.
    """
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pressed = threading.Event()

    def remember(signum: int, frame: FrameType | None) -> Any:
        pressed.set()
        return usual(signum, frame)

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    def report(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, report
    signal.signal(signal.SIGINT, remember)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, usual)
        sys.unraisablehook = hook


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit in the block, so that what it made is removed; an own handler stays."""
    taken = []
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            signum = getattr(signal, name, None)
            if signum is not None and signal.getsignal(signum) is signal.SIG_DFL:
                signal.signal(signum, _end)
                taken.append(signum)
    try:
        yield
    finally:
        for signum in taken:
            signal.signal(signum, signal.SIG_DFL)


def _end(signum: int, _: FrameType | None) -> None:
    raise SystemExit(128 + signum)
