"""One export at a time into one folder, known to other processes; let go of when this one ends in any way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from embedge.errors import ExportError


@contextlib.contextmanager
def locked(path: Path, target: Path) -> Iterator[None]:
    """Hold a lock.

    Args:
        path: file that is locked; removed at the end.
        target: what is written, for the message.

    Raises:
        ExportError: another process, or thread, holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        if not (_lock(descriptor) and _is(path, descriptor)):
            raise ExportError(
                f"{target} is being written by another export. Wait until it has ended, or choose another -o."
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no file that is open
                path.unlink()
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            if os.name == "nt":
                path.unlink()


def _is(path: Path, descriptor: int) -> bool:
    """Whether the file still has its name: who held the lock may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
