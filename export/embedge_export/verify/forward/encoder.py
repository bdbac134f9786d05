"""An encoder and its head over one text: token ids to hidden states, and hidden states to logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge.types import FloatArray
from embedge_export.families.structure import (
    Embedding,
    Encoder,
    Head,
    Layer,
    LearntPositions,
    Sublayer,
)
from embedge_export.graph.built.weights import Weights
from embedge_export.threads import one_thread
from embedge_export.verify.forward.arithmetic import Kept, activated, linear, normalised
from embedge_export.verify.forward.attention import Text, attend, relative_bias


class Forward:
    """An encoder with its weights, each read once.

    Args:
        encoder: what it is made of.
        weights: where they are.
    """

    def __init__(self, encoder: Encoder, weights: Weights) -> None:
        self._encoder = encoder
        self._kept = Kept(weights)

    def forget(self) -> None:
        """Let go of the weights; they are read again when they are needed."""
        self._kept.forget()

    @one_thread()
    def hidden_states(
        self, token_ids: Sequence[int], type_ids: Sequence[int] = (), attended: Sequence[int] = ()
    ) -> FloatArray:
        """What the last layer gives for each token of one text.

        Args:
            token_ids: special tokens included, no padding.
            type_ids: types of the tokens; none where all are of type 0.
            attended: 0 for tokens that no other sees; none where all are seen.

        Returns:
            float32 of shape (num_tokens, hidden_size).
        """
        encoder, ids = self._encoder, np.asarray(token_ids, np.int64)
        seen = np.asarray(attended, np.bool_) if len(attended) else np.ones(len(ids), np.bool_)
        text = Text(
            num_tokens=len(ids),
            attended=None if seen.all() else seen,
            bias=None if encoder.relative is None else relative_bias(encoder.relative, len(ids), self._kept),
        )
        rows = self._embedded(encoder.embedding, ids, np.asarray(type_ids, np.int64))
        for layer in encoder.layers:
            rows = self._layer(layer, rows, text)
        return normalised(rows, encoder.final_norm, self._kept)

    @one_thread()
    def logits(self, head: Head, rows: FloatArray) -> FloatArray:
        """What a head makes of hidden states: float32 (size,), or (num_tokens, size) without pooling."""
        if head.pooling == "CLS":
            rows = rows[:1]
        elif head.pooling == "LAST":
            rows = rows[-1:]
        elif head.pooling == "MEAN":
            rows = rows.mean(axis=0, keepdims=True)
        if head.first is not None:
            rows = linear(rows, head.first, self._kept)
        if head.activation is not None:
            rows = activated(rows.copy(), head.activation)
        rows = linear(normalised(rows, head.norm, self._kept), head.last, self._kept)
        return rows if head.pooling is None else rows[0]

    def _embedded(self, embedding: Embedding, ids: np.ndarray, type_ids: np.ndarray) -> FloatArray:
        """The sum of what is known of each token, normalised, in the hidden size."""
        rows = self._kept.array(embedding.words)[ids] * np.float32(embedding.scale)
        if embedding.positions is not None:
            rows += self._kept.array(embedding.positions.table)[_positions(embedding.positions, ids)]
        if embedding.types is not None:
            stated = embedding.types_input and len(type_ids) > 0
            rows += self._kept.array(embedding.types)[type_ids if stated else np.zeros_like(ids)]
        rows = normalised(rows, embedding.norm, self._kept)
        return rows if embedding.projection is None else linear(rows, embedding.projection, self._kept)

    def _layer(self, layer: Layer, rows: FloatArray, text: Text) -> FloatArray:
        around, kept = layer.around_attention, self._kept
        made = attend(layer.attention, normalised(rows, around.norm_in, kept), text, kept)
        rows = self._added(around, rows, made)
        around, units = layer.around_feed_forward, layer.feed_forward
        given = normalised(rows, around.norm_in, kept)
        inner = linear(given, units.up, kept)
        if units.gate is None:
            inner = activated(inner, units.activation)
        else:
            inner *= activated(linear(given, units.gate, kept), units.activation)
        return self._added(around, rows, linear(inner, units.down, kept))

    def _added(self, around: Sublayer, rows: FloatArray, made: FloatArray) -> FloatArray:
        made = normalised(made, around.norm_out, self._kept)
        if around.scale != 1.0:
            made = made * np.float32(around.scale)
        return normalised(rows + made, around.norm_after, self._kept)


def _positions(learnt: LearntPositions, ids: np.ndarray) -> np.ndarray:
    """Row of the table of positions for each token."""
    if learnt.kind == "range":
        return np.arange(len(ids))
    real = ids != learnt.padding_id
    return np.cumsum(real) * real + learnt.padding_id
