"""From the description of an encoder and its weights to a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedge_export.families.structure import Encoder, Head, Layer, Load
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.cpu_attention import takes_prefix
from embedge_export.graph.built.cpu_blocks import Blocks
from embedge_export.graph.built.positions import PositionNodes
from embedge_export.graph.built.prefixes import PrefixNodes
from embedge_export.graph.built.weights import Weights

if TYPE_CHECKING:
    import onnx

HIDDEN = "last_hidden_state"
LOGITS = "logits"


def build(
    encoder: Encoder, weights: Weights, head: Head | None = None, *, plain: bool = False
) -> tuple[onnx.ModelProto, dict[str, Load]]:
    """Write the graph of an encoder.

    Args:
        encoder: what it is made of.
        weights: where its weights are.
        head: what follows the last hidden states, if anything.
        plain: with attention in single operators, which hold the scores of whole texts.

    Returns:
        A graph with inputs input_ids, attention_mask and, where the encoder has them, token_type_ids, and one
        float32 output: last_hidden_state (batch, seq_len, hidden_size), or the head's logits. Its weights have names
        and shapes but no values; these are read by the functions that come with it, one at a time.
    """
    canvas = Canvas()
    prefixes = PrefixNodes(canvas, encoder) if takes_prefix(encoder) and not plain else None
    first = None if prefixes is None else prefixes.length
    positions = PositionNodes(canvas, weights, encoder.relative, first)
    blocks = Blocks(canvas, weights, positions, prefixes, plain=plain)
    hidden = blocks.embed(encoder.embedding)
    for index, layer in enumerate(encoder.layers):
        hidden = _layer(blocks, hidden, layer, f"layers.{index}")
    canvas.scope("final")
    hidden = blocks.norm(hidden, encoder.final_norm)
    if head is not None:
        hidden = blocks.head(hidden, head)
    return finish(canvas, encoder, hidden, head)


def finish(
    canvas: Canvas, encoder: Encoder, result: str, head: Head | None
) -> tuple[onnx.ModelProto, dict[str, Load]]:
    """Name a graph's result and state its inputs and output, as `build` describes them."""
    from onnx import TensorProto

    output, size = (HIDDEN, encoder.hidden_size) if head is None else (LOGITS, head.last.out_features)
    canvas.rename_output(result, output)
    inputs = ["input_ids", "attention_mask"]
    if encoder.embedding.types is not None and encoder.embedding.types_input:
        inputs.append("token_type_ids")
    pooled = head is not None and head.pooling is not None
    shape: list[str | int] = ["batch_size", size] if pooled else ["batch_size", "sequence_length", size]
    model: onnx.ModelProto = canvas.model(inputs, [(output, shape, TensorProto.FLOAT)])
    return model, canvas.loads()


def _layer(blocks: Blocks, hidden: str, layer: Layer, name: str) -> str:
    canvas = blocks.canvas
    around = layer.around_attention
    canvas.scope(f"{name}.attention")
    mixed = blocks.attention(blocks.norm(hidden, around.norm_in), layer.attention, f"{name}.attention")
    hidden = canvas.op("Add", hidden, blocks.scaled(blocks.norm(mixed, around.norm_out), around.scale))
    hidden = blocks.norm(hidden, around.norm_after)
    around = layer.around_feed_forward
    canvas.scope(f"{name}.feed_forward")
    inner = blocks.feed_forward(blocks.norm(hidden, around.norm_in), layer.feed_forward)
    hidden = canvas.op("Add", hidden, blocks.scaled(blocks.norm(inner, around.norm_out), around.scale))
    return blocks.norm(hidden, around.norm_after)
