"""Large results in memory of their own, which goes back to the system with them; and what the C library keeps."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
import os
from collections.abc import Callable, Sequence

import numpy as np

from embedge.types import FloatArray

_LARGE_BYTES = 1 << 16
"""Below it a page more than is needed would count."""


def empty_rows(shape: tuple[int, ...]) -> FloatArray:
    """A float32 array without values; a large one is freed to the system at once when nobody refers to it any more.

    A C library keeps what is freed below what is not: dropped results of 62 MB left a process at 250 MB of 250.
    """
    size = math.prod(shape)
    if size * 4 < _LARGE_BYTES:
        return np.empty(shape, dtype=np.float32)
    try:
        if os.name == "nt":
            block = mmap.mmap(-1, size * 4)
        else:
            block = mmap.mmap(-1, size * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no memory for {size * 4} bytes of results") from error
    return np.frombuffer(block, dtype=np.float32).reshape(shape)


def in_one_block(arrays: Sequence[FloatArray]) -> list[FloatArray]:
    """Copies of two-dimensional float32 arrays, which share one block of memory."""
    block = empty_rows((sum(array.size for array in arrays),))
    copies, start = [], 0
    for array in arrays:
        copy = block[start : start + array.size].reshape(array.shape)
        copy[:] = array
        copies.append(copy)
        start += array.size
    return copies


def give_back() -> None:
    """Give back to the system what this process has freed; glibc keeps most of it otherwise."""
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Glibc's malloc_trim; None where there is another library."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        function: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return function
    return None  # pragma: no cover (other C libraries)
