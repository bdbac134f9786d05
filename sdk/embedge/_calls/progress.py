"""How far a call is: a line on stderr, without a dependency, and whom its caller wants to be told."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

from embedge._calls.options import ShowOptions

_WIDTH = 24
_REDRAW_S = 0.1


class ProgressBar:
    """Counts prompts; draws a bar on a terminal and one closing line elsewhere.

    Args:
        total: number of prompts.
        shown: how the call is to be shown.
        description: first word of the line.
    """

    def __init__(self, total: int, shown: ShowOptions, description: str) -> None:
        self._total = total
        self._done = 0
        self._description = description
        self._started = self._drawn = time.perf_counter()
        use_tqdm, self._tell = shown.use_tqdm, shown.progress
        self._bar = use_tqdm(total=total, desc=description) if callable(use_tqdm) else None
        # a program without a console has no stderr
        self._shown = use_tqdm is True and sys.stderr is not None
        self._live = self._shown and sys.stderr.isatty()
        self._filled, self._empty = _marks() if self._shown else ("", "")

    def __enter__(self) -> ProgressBar:
        return self

    def update(self, count: int) -> None:
        """Add finished prompts."""
        self._done += count
        if self._tell is not None:
            self._tell(self._done, self._total)
        if self._bar is not None:
            self._bar.update(count)
        now = time.perf_counter()
        if self._live and now - self._drawn >= _REDRAW_S:
            self._drawn = now
            _write("\r" + self._line(now))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._shown:
            _write(("\r" if self._live else "") + self._line(time.perf_counter()) + "\n")

    def _line(self, now: float) -> str:
        share = self._done / self._total if self._total else 1.0
        filled = round(share * _WIDTH)
        elapsed = max(now - self._started, 1e-9)
        bar = self._filled * filled + self._empty * (_WIDTH - filled)
        return (
            f"{self._description} {bar} {share:4.0%} {self._done:,}/{self._total:,} "
            f"in {elapsed:.1f} s, {self._done / elapsed:,.0f}/s"
        )


def _marks() -> tuple[str, str]:
    """What a bar is drawn with, in the characters that stderr has."""
    try:
        "█░".encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return "#", "."
    return "█", "░"


def _write(line: str) -> None:
    """A line that cannot be shown, as stderr is closed or has no such characters, is no reason to lose the answers."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line)
        sys.stderr.flush()
