"""Encoders with rotary positions, merged projections and gated feed-forward: what ModernBERT and its like share."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from embedge_export.families.parts import Config, rows, self_attention
from embedge_export.families.structure import (
    Embedding,
    Encoder,
    FeedForward,
    Layer,
    Linear,
    Norm,
    Rotary,
    Sublayer,
    Tensor,
    Window,
)


class RotaryLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer as these families store it.

    Attributes:
        merged: queries, keys and values in one projection, (3 * hidden_size, hidden_size).
        output: projection after attention.
        feed_forward: with a gate.
        rotary: rotation of queries and keys.
        around_attention, around_feed_forward: where the norms stand.
        window: how many tokens before and after itself a token sees; None for all.
    """

    merged: Linear
    output: Linear
    feed_forward: FeedForward
    rotary: Rotary
    around_attention: Sublayer
    around_feed_forward: Sublayer
    window: Window | None = None


def rotary_encoder(
    size: int,
    heads: int,
    layers: int,
    layer: Callable[[int], RotaryLayer],
    embedding: Embedding,
    *,
    vocab_size: int,
    final_norm: Norm | None = None,
) -> Encoder:
    """An encoder of such layers.

    Args:
        size: hidden size.
        heads: of each layer.
        layers: how many there are.
        layer: the one at an index, from 0 on.
        embedding: before the first layer.
        vocab_size: as the configuration states it.
        final_norm: after the last layer, if any.
    """
    return Encoder(
        embedding=embedding,
        layers=tuple(_layer(layer(index), size, heads) for index in range(layers)),
        hidden_size=size,
        vocab_size=vocab_size,
        final_norm=final_norm,
    )


def _layer(stored: RotaryLayer, size: int, heads: int) -> Layer:
    return Layer(
        attention=self_attention(
            size,
            heads,
            (rows(stored.merged, part * size, (part + 1) * size) for part in range(3)),
            stored.output,
            rotary=stored.rotary,
            window=stored.window,
        ),
        feed_forward=stored.feed_forward,
        around_attention=stored.around_attention,
        around_feed_forward=stored.around_feed_forward,
    )


def embedding_with_types(config: Config, vocab_size: int, size: int, norm: Norm) -> Embedding:
    """Words and, where the configuration has any, token types, under BERT's names."""
    types = int(config.get("type_vocab_size") or 0)
    return Embedding(
        words=Tensor(name="embeddings.word_embeddings.weight", shape=(vocab_size, size)),
        types=Tensor(name="embeddings.token_type_embeddings.weight", shape=(types, size)) if types else None,
        types_input=types > 1,
        norm=norm,
    )
