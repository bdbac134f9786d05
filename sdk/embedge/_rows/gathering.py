"""Rows that come batch by batch, brought into the order of the prompts."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeAlias

import numpy as np

from embedge._machine.own_memory import empty_rows
from embedge._text.padding import Indices
from embedge.errors import SessionError
from embedge.types import FloatArray, IntArray

OnDone: TypeAlias = Callable[[int], None]
"""Called with the number of prompts that are done since the last time."""
RowBatches: TypeAlias = Generator[tuple[Indices, FloatArray], None, None]
"""Positions of some prompts, and one row for each."""


def gather(batches: RowBatches, num_rows: int, row_size: int, on_done: OnDone) -> FloatArray:
    """All rows as one array.

    Args:
        batches: rows of equal size; closed at the end.
        num_rows: of all batches together.
        row_size: components of a row where there are none.
        on_done: called after each batch.

    Returns:
        float32 (num_rows, components of a row); (0, row_size) where there are no rows.

    Raises:
        SessionError: batches differ in their components.
    """
    gathered: FloatArray | None = None
    with closing(batches) as arriving:
        for positions, rows in arriving:
            if num_rows == 1:
                gathered = rows
                on_done(1)
                continue
            if gathered is None:
                gathered = empty_rows((num_rows, rows.shape[1]))
            if rows.shape[1] != gathered.shape[1]:
                raise SessionError(
                    f"the graph gave rows of {rows.shape[1]} components after rows of {gathered.shape[1]}; expected "
                    "one size for all texts. Export the model again."
                )
            gathered[positions] = rows
            on_done(len(positions))
    return np.empty((num_rows, row_size), dtype=np.float32) if gathered is None else gathered


def gather_each(
    batches: RowBatches, num_rows: int, finish: Callable[[FloatArray, int], FloatArray], on_done: OnDone
) -> list[FloatArray]:
    """All rows as a list, which may differ in size.

    Args:
        batches: closed at the end.
        num_rows: of all batches together.
        finish: makes of a row, and its prompt's position, what is returned.
        on_done: called after each batch.
    """
    gathered: list[FloatArray] = [np.zeros(0, dtype=np.float32)] * num_rows
    with closing(batches) as arriving:
        for positions, rows in arriving:
            for position, row in zip(positions.tolist(), rows, strict=True):
                gathered[position] = finish(row, position)
            on_done(len(positions))
    return gathered


def telling_of_prompts(batches: RowBatches, counts: IntArray, on_done: OnDone) -> RowBatches:
    """Batches of windows; after each the prompts are told whose last window was in it."""
    prompt_of = np.repeat(np.arange(len(counts)), counts)
    left = counts.copy()
    with closing(batches):
        for positions, rows in batches:
            np.subtract.at(left, prompt_of[positions], 1)
            done = int((left[np.unique(prompt_of[positions])] == 0).sum())
            yield positions, rows
            on_done(done)
