"""What a graph is fed with: a batch of prompts, padded, and what they come after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np

from embedge._batches.planning import PaddedLength
from embedge._batches.prefixes import Prefix
from embedge._text.padding import TokenBatch, widened
from embedge._text.tokens import Encoded, EncodedRows, batch_of_one
from embedge.manifest import TokenizerSpec
from embedge.types import FloatArray

Feeds: TypeAlias = dict[str, Any]
"""Arrays by the graph's inputs."""


class Feeding(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How the inputs of a graph are made.

    Attributes:
        tokenizer: padding facts.
        inputs: names of the graph's inputs.
        padded_length: to which batches are padded; None: to their longest text.
    """

    tokenizer: TokenizerSpec
    inputs: Sequence[str]
    padded_length: PaddedLength | None

    def feeds(self, batch: TokenBatch, prefix: Prefix | None = None) -> Feeds:
        """The graph's inputs, each int64 (batch, seq_len), and those of a prefix."""
        if self.padded_length is not None:
            seq_len = batch.input_ids.shape[1]
            more = self.padded_length.of(seq_len) - seq_len
            batch = widened(batch, more, self.tokenizer.pad_token_id, self.tokenizer.padding_side)
        feeds: Feeds = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
        }
        if "token_type_ids" in self.inputs:
            feeds["token_type_ids"] = (
                np.zeros(batch.input_ids.shape, dtype=np.int64) if batch.type_ids is None else batch.type_ids
            )
        if "position_ids" in self.inputs:
            feeds["position_ids"] = np.maximum(np.cumsum(batch.attention_mask, axis=1) - 1, 0)
        return feeds if prefix is None else feeds | prefix.feeds

    def batch(self, encoded: Sequence[Encoded]) -> TokenBatch:
        """Prompts that were encoded one by one, as one batch."""
        if len(encoded) == 1:
            return batch_of_one(encoded[0])
        rows = encoded if isinstance(encoded, EncodedRows) else EncodedRows.of(encoded)
        return rows.batch(np.arange(len(rows)), self.tokenizer.pad_token_id, self.tokenizer.padding_side)

    def real(self, rows: FloatArray, num_tokens: int) -> FloatArray:
        """A prompt's rows without those of padding."""
        return rows[:num_tokens] if self.tokenizer.padding_side == "right" else rows[len(rows) - num_tokens :]
