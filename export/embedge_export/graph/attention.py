"""What a graph's attention takes on the CPU: whether it holds scores of whole texts, and how it goes in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from embedge.manifest import PrefixSpec
from embedge_export.families.structure import Attention, Encoder
from embedge_export.graph.built.causal_blocks import BLOCK, held_in_blocks
from embedge_export.graph.built.cpu_attention import form_of
from embedge_export.graph.built.windows import kernel_rows, sizes_of

if TYPE_CHECKING:
    import onnx

_BLOCKWISE = "MultiHeadAttention"
_QKV_AND_BIAS = 4
_HOLDS_SCORES = ("Softmax", "Attention", "GroupQueryAttention")
_COPIES = 3
"""Scores, masked scores and their softmax."""


class AttentionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest tells of attention; see manifest.Variant."""

    score_heads: int | None = None
    attention_block: int | None = None
    causal_heads: int | None = None
    window_numbers: int | None = None
    switch_lengths: tuple[int, ...] = ()


def prefix_of(encoder: Encoder, passed_over_id: int | None) -> PrefixSpec:
    """How a graph takes prefixes that was built of an encoder which `takes_prefix`.

    Args:
        encoder: what it was built of.
        passed_over_id: see manifest.PrefixSpec.
    """
    blocks = [layer.attention for layer in encoder.layers]
    return PrefixSpec(
        num_layers=len(blocks),
        numbers_per_token=sum(2 * block.num_kv_heads * block.head_dim for block in blocks),
        score_heads=max(block.num_heads for block in blocks),
        passed_over_id=passed_over_id,
    )


def facts_of_built(encoder: Encoder) -> AttentionFacts:
    """Of a graph that was built of an encoder for the CPU."""
    blocks = list(dict.fromkeys(layer.attention for layer in encoder.layers))
    by_form = {
        form: [block for block in blocks if form_of(block) == form]
        for form in ("flash", "causal", "windowed", "blocks", "scores")
    }
    rows = [kernel_rows(block)[1] for block in by_form["flash"]]
    rows += [kernel_rows(block)[0] for block in by_form["causal"]]
    windowed = by_form["windowed"]
    switches = {sizes_of(block).one_block for block in windowed} | {BLOCK for _ in by_form["blocks"]}
    numbers = [*map(_window_numbers, windowed), *map(held_in_blocks, by_form["blocks"])]
    return AttentionFacts(
        score_heads=max((block.num_heads for block in by_form["scores"]), default=None),
        attention_block=rows[0] if rows else None,
        causal_heads=max((block.num_heads for block in by_form["causal"]), default=None),
        window_numbers=max(numbers, default=None),
        switch_lengths=tuple(sorted(switches)),
    )


def _window_numbers(block: Attention) -> int:
    """Numbers that a window's blocks hold for each token: scores, and the keys and values of each block."""
    sizes = sizes_of(block)
    copies = -(-2 * block.num_kv_heads * block.head_dim * sizes.keys // sizes.queries)
    in_blocks = max(2 * copies, copies + (_COPIES - 1) * block.num_heads * sizes.keys)
    return max(in_blocks, _COPIES * block.num_heads * sizes.one_block)


def score_heads(model: onnx.ModelProto, num_heads: int | None) -> int | None:
    """Heads whose scores (seq_len x seq_len each) a run on the CPU holds at once, or None where it works in blocks.

    onnxruntime's MultiHeadAttention works in blocks where it has neither mask nor bias of the scores and is not causal.
    12 heads at 4,096 tokens then take 0.1 times the size of their scores, and 1.4 times with a bias; as separate
    operators they take 2.9 times.

    Args:
        model: a graph that was not built here.
        num_heads: of each layer; None where there are none, or it is not known.
    """
    for node in model.graph.node:
        if node.op_type in _HOLDS_SCORES:
            return num_heads
        if node.op_type == _BLOCKWISE and (
            any(node.input[_QKV_AND_BIAS:]) or any(a.name == "unidirectional" and a.i for a in node.attribute)
        ):
            return num_heads
    return None
