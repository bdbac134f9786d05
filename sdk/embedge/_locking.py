"""A file that one process at a time holds, and lets go of when it ends in any way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def hold_file(path: Path) -> Iterator[bool]:
    """Hold a lock as long as the block runs.

    Args:
        path: file that is locked; removed at the end.

    Yields:
        Whether it is held; False where another process, or thread, has it.
    """
    descriptor = _take(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):  # Windows removes no file that is open
                path.unlink()
            os.close(descriptor)
            if os.name == "nt":  # the other system's order
                with contextlib.suppress(OSError):
                    path.unlink()


def _take(path: Path) -> int | None:
    """The descriptor of the file under this name, locked; None where another has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        if not _lock(descriptor):
            os.close(descriptor)
            return None
        if _has_name(path, descriptor):
            return descriptor
        os.close(descriptor)  # who held it has removed it since; a third may hold another by now


def _has_name(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":  # the other system's call
            msvcrt: Any = __import__("msvcrt")
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
