"""A file that is replaced whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def replace_whole(file: Path, data: bytes, *, alone: bool = True) -> None:
    """Write a file so that at every moment the old content or the new is there.

    Args:
        file: its name.
        data: its new content.
        alone: nobody else writes it at this moment; False where another process or thread may.
    """
    own = "" if alone else f".{os.getpid()}-{threading.get_ident()}"
    part = file.with_name(f".{file.name}{own}.part")
    with part.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)
