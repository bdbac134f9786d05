"""What other libraries leave on the disk when they are imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"


@contextlib.contextmanager
def no_compiler_folder() -> Iterator[None]:
    """Remove the folder for compiled kernels that torch makes in the temporary folder as soon as it is imported.

    Nothing is compiled here, so it is empty. One that the user names, or that holds anything, stays.
    """
    named = _INDUCTOR in os.environ
    try:
        yield
    finally:
        made = os.environ.get(_INDUCTOR)
        if made is not None and not named:
            with contextlib.suppress(OSError):
                Path(made).rmdir()
