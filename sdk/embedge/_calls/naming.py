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
        told = _renamed(error, lambda at: f"{name or at[1]} {index}")
        raise type(error)(told, index=index) from error


def of_one(error: PromptError | NumericalError) -> str:
    """An error's message where it is told beside the text that it is of: "the text" for the prompt's position."""
    return _renamed(error, lambda at: "the text" if at[1] == "prompt" else "the pair")


def _renamed(error: PromptError | NumericalError, name: Callable[[re.Match[str]], str]) -> str:
    return re.sub(rf"\b(prompt|pair) {error.index}\b", name, str(error), count=1)
