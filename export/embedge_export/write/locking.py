"""One export at a time into one folder, known to other processes; let go of when this one ends in any way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from embedge.errors import ExportError
from embedge.store import hold_file


@contextlib.contextmanager
def locked(path: Path, target: Path) -> Iterator[None]:
    """Hold a lock.

    Args:
        path: file that is locked; removed at the end.
        target: what is written, for the message.

    Raises:
        ExportError: another process, or thread, holds it.
    """
    with hold_file(path) as is_held:
        if not is_held:
            raise ExportError(
                f"{target} is being written by another export. Wait until it has ended, or choose another -o."
            )
        yield
