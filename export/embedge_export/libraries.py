"""The first import of torch and transformers, which neither reports to anyone nor can be cut in half."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


def load_libraries() -> None:
    """Import torch and transformers; a second call costs nothing.

    transformers imports onnxruntime where it is installed, so onnxruntime is told to keep quiet before.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed meanwhile.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with put_off_interrupts():
        import torch  # noqa: F401
        import transformers  # noqa: F401


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
