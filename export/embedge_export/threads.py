"""How many threads numpy and torch multiply matrices with."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

_Pool: TypeAlias = tuple[Callable[[], int], Callable[[int], object]]
"""What tells how many threads a library takes, and what sets it."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Have numpy's OpenBLAS, and torch where it is imported, multiply with one thread; others are left as they are.

    Their threads wait for one another in a loop: on two cores that other processes use, too, an export took six times
    as long with two of OpenBLAS's, and a text of 64 tokens ten times as long with two of torch's.
    """
    with contextlib.ExitStack() as ending:
        for get, change in _pools():
            ending.callback(change, get())
            change(1)
        yield


def _pools() -> Iterator[_Pool]:
    blas = _openblas()
    if blas is not None:
        library, name = blas
        yield library[name.format("get")], library[name.format("set")]
    torch = sys.modules.get("torch")
    if torch is not None:
        yield torch.get_num_threads, torch.set_num_threads


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
