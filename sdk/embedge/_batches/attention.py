"""What the attention of a batch takes of the memory, and how many batches may run at once."""

from __future__ import annotations

import msgspec

from embedge._machine.memory import available_memory_bytes
from embedge.errors import PromptError

_COPIES = 3
"""Scores, scaled and masked scores, and their softmax are alive at once: 2.9 measured at 512 to 4,096 tokens."""
_FLOAT_BYTES = 4
_ALWAYS_BYTES = 256 * 2**20
"""So much is taken without asking whether it is free."""


class AttentionMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a graph whose memory grows with the square of a batch's length.

    Attributes:
        num_heads: heads of a layer whose scores are held at once.
    """

    num_heads: int

    def needed_bytes(self, num_rows: int, seq_len: int) -> int:
        """What onnxruntime allocates for the scores of one layer; layers follow one another in the same memory."""
        return _COPIES * _FLOAT_BYTES * self.num_heads * num_rows * seq_len**2

    def max_square(self) -> int:
        """Limit on rows times the square of the longest: batches above it gain nothing and cost memory."""
        return max(1, _ALWAYS_BYTES // self.needed_bytes(1, 1))

    def num_lanes(self, num_lanes: int, largest: int, seq_len: int, index: int) -> int:
        """How many batches may run at once.

        Args:
            num_lanes: how many would run.
            largest: rows of the batch that needs most.
            seq_len: its length in tokens.
            index: its longest prompt.

        Raises:
            PromptError: not even one fits into the memory that is free.
        """
        needed_bytes = self.needed_bytes(largest, seq_len)
        if needed_bytes <= _ALWAYS_BYTES:
            return num_lanes
        free_bytes = available_memory_bytes()
        if free_bytes is None:
            return 1
        if needed_bytes > free_bytes:
            raise PromptError(
                f"prompt {index} has {seq_len:,} tokens; the attention of {self.num_heads} heads over them takes about "
                f"{needed_bytes / 1e9:.1f} GB, and {free_bytes / 1e9:.1f} GB of memory are free. Cut it with "
                'truncate_prompt_tokens, embed it in windows with long_text="mean" and a lower max_model_len, '
                "or free memory.",
                index=index,
            )
        return max(1, min(num_lanes, free_bytes // needed_bytes))
