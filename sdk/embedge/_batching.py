"""Which prompts run together: sorted by length, cut by padded tokens. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from embedge._types import IntArray, Side


def plan_batches(num_tokens: Sequence[int], max_batch_tokens: int) -> list[npt.NDArray[np.intp]]:
    """Group sequences of like length so that no batch holds more than max_batch_tokens, padding included.

    A sequence longer than max_batch_tokens forms a batch of its own. Longest first: the largest allocation
    comes first, and the short batches fill the end of a run evenly.

    Args:
        num_tokens: tokens of each sequence.
        max_batch_tokens: limit on rows times the longest row.

    Returns:
        Positions of the sequences, one array per batch; each position occurs once.
    """
    order = np.argsort(-np.asarray(num_tokens, dtype=np.int64), kind="stable")
    batches: list[npt.NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        rows = max(1, max_batch_tokens // max(1, num_tokens[order[start]]))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad_rows(rows: Sequence[Sequence[int]], pad_value: int, side: Side) -> IntArray:
    """Stack rows of unequal length.

    Args:
        rows: one sequence of ints per row.
        pad_value: fills the shorter rows.
        side: where the filling goes.

    Returns:
        int64 (batch, longest row).
    """
    longest = max(len(row) for row in rows)
    padded = np.full((len(rows), longest), pad_value, dtype=np.int64)
    for i, row in enumerate(rows):
        if side == "right":
            padded[i, : len(row)] = row
        else:
            padded[i, longest - len(row) :] = row
    return padded
