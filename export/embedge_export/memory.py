"""Memory that is free, given back to the system: an export opens one large thing after another."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """Give back what is free at the end of the block.

    glibc keeps most of what is freed between what is not, and takes new memory for the next session or graph: an
    export to float32 and int8 took 860 MB so, and takes 540.
    """
    try:
        yield
    finally:
        trim = _trim()
        if trim is not None:
            trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Glibc's malloc_trim; None where there is another library."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        function: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return function
    return None
