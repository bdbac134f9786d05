"""Errors name a prompt by its position in the whole call, where it was computed as one of a part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embedge.errors import NumericalError, PromptError


@contextmanager
def naming(name: str | None = None, position: Callable[[int], int] = int) -> Iterator[None]:
    """Put what the caller knows it by in the place of the prompt that an error names.

    Args:
        name: what the prompts of the part are to the caller; None leaves the word.
        position: of a prompt in the call, by that in the part.

    Raises:
        PromptError, NumericalError: that of the part.
    """
    try:
        yield
    except (PromptError, NumericalError) as error:
        if error.index is None:
            raise
        index = position(error.index)
        told = re.sub(
            rf"\b(prompt|pair) {error.index}\b", lambda at: f"{name or at[1]} {index}", str(error), count=1
        )
        raise type(error)(told, index=index) from error
