"""An export's stages on a stream: a bar that moves on a terminal, one line per finished stage elsewhere."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from embedge_export.progress import Listener, Step

_WIDTH = 24
_REDRAW_S = 0.1
_BLOCK = 6


@contextlib.contextmanager
def shown(stream: TextIO) -> Iterator[Listener]:
    """Show what happens on a stream, and leave it tidy whatever happens."""
    if not stream.isatty():
        yield lambda step: _write(stream, _line(step)) if step.finished else None
        return
    bar = _Bar(stream)
    handler = _Above(bar.above)
    logger = logging.getLogger("embedge_export")
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield bar.tell
    finally:
        logger.propagate = propagated
        logger.removeHandler(handler)
        bar.close()


def _line(step: Step) -> str:
    return f"{step.stage:<8}{step.elapsed_s:7.1f} s  {step.detail}\n"


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


class _Bar:
    """The running stage on the last line of a terminal, redrawn while it runs; finished ones stay above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._step: Step | None = None
        self._told_s = 0.0
        self._drawn = 0
        # stages that cannot say how far they are would look dead without it
        self._thread = threading.Thread(target=self._redraw, name="embedge-stages", daemon=True)
        self._thread.start()

    def tell(self, step: Step) -> None:
        with self._lock:
            if step.finished:
                self._clear()
                _write(self._stream, _line(step))
                self._step = None
            else:
                self._step, self._told_s = step, time.perf_counter()
                self._draw()

    def above(self, text: str) -> None:
        """Write a line that stays, and the bar again below it."""
        with self._lock:
            self._clear()
            _write(self._stream, text + "\n")
            self._draw()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._clear()

    def _redraw(self) -> None:
        while not self._stop.wait(_REDRAW_S):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        if self._step is None:
            return
        elapsed_s = self._step.elapsed_s + time.perf_counter() - self._told_s
        share = "" if self._step.share is None else f"{self._step.share:5.0%}"
        text = f"{self._step.stage:<8}{elapsed_s:7.1f} s  {_bar(self._step.share, elapsed_s)}{share}"
        text = text[: shutil.get_terminal_size().columns - 1]
        _write(self._stream, "\r" + text.ljust(self._drawn))
        self._drawn = len(text)

    def _clear(self) -> None:
        if self._drawn:
            _write(self._stream, "\r" + " " * self._drawn + "\r")
            self._drawn = 0


def _bar(share: float | None, elapsed_s: float) -> str:
    if share is not None:
        filled = round(share * _WIDTH)
        return "█" * filled + "░" * (_WIDTH - filled)
    # a block that goes to and fro
    reach = _WIDTH - _BLOCK
    column = int(elapsed_s * 8) % (2 * reach)
    column = min(column, 2 * reach - column)
    return "░" * column + "█" * _BLOCK + "░" * (reach - column)


class _Above(logging.Handler):
    """Warnings must not run into the bar."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(record.getMessage())
