"""Memory that is free, given back to the system: an export opens one large thing after another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from embedge.runtime import give_back


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """Give back what is free at the end of the block.

    glibc keeps most of what is freed between what is not, and takes new memory for the next session or graph: an
    export to float32 and int8 took 860 MB so, and takes 540.
    """
    try:
        yield
    finally:
        give_back()
