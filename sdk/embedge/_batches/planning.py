"""Which prompts run together, sorted by length and cut by padded tokens; and how long a batch is padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt


def plan_batches(
    num_tokens: Sequence[int] | npt.NDArray[np.int32],
    max_batch_tokens: int,
    max_square: int | None = None,
    most_rows: Callable[[int], int] | None = None,
    switch_lengths: Sequence[int] = (),
) -> list[npt.NDArray[np.intp]]:
    """Group sequences of like length so that no batch holds more than max_batch_tokens, padding included.

    A sequence longer than max_batch_tokens forms a batch of its own. Longest first: the largest allocation
    comes first, and the short batches fill the end of a run evenly.

    Args:
        num_tokens: tokens of each sequence.
        max_batch_tokens: limit on rows times the longest row.
        max_square: limit on rows times the square of the longest row, which attention's memory goes with; None sets
            none.
        most_rows: of a length that fit into memory; None sets none.
        switch_lengths: see manifest.Variant.

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
        if most_rows is not None:
            rows = min(rows, most_rows(longest))
        batch = order[start : start + rows]
        batches.append(batch[counts[batch] > shorter_side(longest, switch_lengths)])
        start += len(batches[-1])
    return batches


def shorter_side(num_tokens: int, switch_lengths: Sequence[int]) -> int:
    """The longest text that is computed otherwise than a text of so many tokens, for being shorter; -1 for none."""
    return max((length for length in switch_lengths if length < num_tokens), default=-1)


class PaddedLength(msgspec.Struct, frozen=True, kw_only=True):
    """The length that a batch is padded to: that of its longest text, or a little more.

    Attention computes rows in blocks. Another kernel, which rounds otherwise, computes a last block of a single row; a
    text's vector would then depend, in its last digits, on whether its batch is padded beyond that row, and an int8
    graph makes more of the difference. Such a batch is padded by one more.

    Attributes:
        max_seq_len: no batch is padded beyond it; texts of that length are never padded either.
        block: rows that attention computes at a time; None where it does not work in blocks.
        multiple_of: see manifest.Variant.
    """

    max_seq_len: int
    block: int | None = None
    multiple_of: int = 1

    def of(self, seq_len: int) -> int:
        """The padded length for a longest text of `seq_len` tokens."""
        if seq_len >= self.max_seq_len:
            return seq_len
        length = min(-(-seq_len // self.multiple_of) * self.multiple_of, self.max_seq_len)
        if self.block is not None and (length - 1) % self.block == 0 and length < self.max_seq_len:
            return length + 1
        return length
