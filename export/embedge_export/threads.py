"""How many threads numpy multiplies matrices with."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Have OpenBLAS multiply with one thread, as far as numpy brings it; other libraries are left as they are.

    Its threads wait for one another in a loop: on two cores that another process uses, too, an export took six times
    as long with two of them.
    """
    blas = _openblas()
    if blas is None:
        yield
        return
    library, name = blas
    before = int(library[name.format("get")]())
    library[name.format("set")](1)
    try:
        yield
    finally:
        library[name.format("set")](before)


def num_threads() -> int | None:
    """Threads that OpenBLAS multiplies with; None where numpy brings none."""
    blas = _openblas()
    return None if blas is None else int(blas[0][blas[1].format("get")]())


@functools.cache
def _openblas() -> tuple[Any, str] | None:
    """The library that is loaded already, and how its functions for threads are called."""
    folders = [Path(np.__file__).parents[1] / "numpy.libs", Path(np.__file__).parent / ".dylibs"]
    for file in (file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*openblas*"))):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(str(file))
            for name in (
                "scipy_openblas_{}_num_threads64_",
                "scipy_openblas_{}_num_threads",
                "openblas_{}_num_threads64_",
                "openblas_{}_num_threads",
            ):
                if hasattr(library, name.format("get")):
                    return library, name
    return None
