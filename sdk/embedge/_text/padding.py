"""Padded batches of token ids."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.types import IntArray, Side

Indices: TypeAlias = npt.NDArray[np.intp]
"""Of prompts in a call, or of tokens among others: what numpy picks rows with."""
SmallInts: TypeAlias = npt.NDArray[np.int32]


class TokenBatch(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Padded rows, each array int64 (batch, seq_len).

    Attributes:
        input_ids: token ids, padding filled with the tokenizer's pad id.
        attention_mask: 1 for the tokens that are attended to.
        type_ids: segments; None where all are 0.
    """

    input_ids: IntArray
    attention_mask: IntArray
    type_ids: IntArray | None


def widened(batch: TokenBatch, more: int, pad_token_id: int, side: Side) -> TokenBatch:
    """The batch with so many more columns of padding."""
    if more == 0:
        return batch
    columns = ((0, 0), (0, more) if side == "right" else (more, 0))
    return TokenBatch(
        input_ids=np.pad(batch.input_ids, columns, constant_values=pad_token_id),
        attention_mask=np.pad(batch.attention_mask, columns),
        type_ids=None if batch.type_ids is None else np.pad(batch.type_ids, columns),
    )


def gathered(values: SmallInts, cells: Indices, padding: npt.NDArray[np.bool_], fill: int) -> IntArray:
    """Values at the cells, and `fill` in padding, whose cells may lie outside."""
    made = values.take(cells, mode="clip").astype(np.int64)
    np.copyto(made, fill, where=padding)
    return made
