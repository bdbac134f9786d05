"""One writer at a time of one folder, known to other processes; let go of when this one ends in any way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from embedge._locking import hold_file
from embedge.errors import EmbedgeError


@contextlib.contextmanager
def locked(path: Path, target: Path, error: type[EmbedgeError]) -> Iterator[None]:
    """Hold a lock.

    Args:
        path: file that is locked; removed at the end.
        target: what is written, for the message.
        error: what is raised.

    Raises:
        EmbedgeError: another process, or thread, holds it.
    """
    with hold_file(path) as is_held:
        if not is_held:
            raise error(
                f"{target} is being written by another process. Wait until it has ended, or choose another place."
            )
        yield
