"""Which prompts run together: sorted by length, cut by padded tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def plan_batches(
    num_tokens: Sequence[int] | npt.NDArray[np.int32], max_batch_tokens: int, max_square: int | None = None
) -> list[npt.NDArray[np.intp]]:
    """Group sequences of like length so that no batch holds more than max_batch_tokens, padding included.

    A sequence longer than max_batch_tokens forms a batch of its own. Longest first: the largest allocation
    comes first, and the short batches fill the end of a run evenly.

    Args:
        num_tokens: tokens of each sequence.
        max_batch_tokens: limit on rows times the longest row.
        max_square: limit on rows times the square of the longest row, which attention's memory goes with; None sets
            none.

    Returns:
        Positions of the sequences, one array per batch; each position occurs once.
    """
    counts = np.asarray(num_tokens, dtype=np.int64)
    order = np.argsort(-counts, kind="stable")
    batches: list[npt.NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        longest = max(1, int(counts[order[start]]))
        rows = max(1, max_batch_tokens // longest)
        if max_square is not None:
            rows = max(1, min(rows, max_square // longest**2))
        batches.append(order[start : start + rows])
        start += rows
    return batches
