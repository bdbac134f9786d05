"""What a process holds: memory, threads, descriptors, mappings; as Linux tells it."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import logging
import os
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SELF = Path("/proc/self")
_MIB = 1 << 20


@dataclass(frozen=True)
class Held:
    """At a moment.

    Attributes:
        rss_mib: resident memory.
        threads, descriptors, mappings: how many.
        kept_mib: resident memory after the C library gave back what nobody uses, where that was asked for.
    """

    rss_mib: float
    threads: int
    descriptors: int
    mappings: int
    kept_mib: float = 0.0


def held() -> Held:
    """What this process holds now."""
    return Held(
        rss_mib=_rss_mib(),
        threads=len(list((_SELF / "task").iterdir())),
        descriptors=len(list((_SELF / "fd").iterdir())),
        mappings=(_SELF / "maps").read_text().count("\n"),
    )


def settled() -> Held:
    """The same when garbage is collected and no thread of a call is left."""
    for thread in threading.enumerate():
        if thread.name.startswith("embedge"):
            thread.join(timeout=60)
    gc.collect()
    found = held()
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    return dataclasses.replace(found, kept_mib=_rss_mib())


def _rss_mib() -> float:
    pages = int((_SELF / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def median(samples: list[Held]) -> Held:
    """Of each number; memory goes up and down with what is under way."""
    return Held(
        *(
            statistics.median(getattr(each, name) for each in samples)
            for name in ("rss_mib", "threads", "descriptors", "mappings")
        )
    )


@contextlib.contextmanager
def noticed(note: Callable[[BaseException | None, str], None]) -> Iterator[None]:
    """Have everything noted that Python would only print: errors that nobody catches, warnings of a log.

    Args:
        note: takes an error and where it was.
    """

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.exc_info[1] if record.exc_info else None, f"log: {record.getMessage()}")

    handler, kept = Log(logging.WARNING), (sys.unraisablehook, threading.excepthook)
    sys.unraisablehook = lambda seen: note(seen.exc_value, f"in {seen.object!r}:")
    threading.excepthook = lambda seen: note(seen.exc_value, f"in {seen.thread}:")
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        sys.unraisablehook, threading.excepthook = kept
