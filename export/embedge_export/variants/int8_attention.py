"""Which attention of an int8 graph has its products in 8 bits: the causal one of long texts, see int8_blocks.

That of encoders, whose kernel is better, would gain 2 to 8 % of a run. Windows and capped scores stay in float32, in
blocks of their own; see graph/built/causal_blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge_export.families.structure import Encoder
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.cpu_attention import form_of
from embedge_export.graph.built.windows import kernel_rows
from embedge_export.variants.int8_blocks import BLOCK, BlockNodes, Texts, measured

if TYPE_CHECKING:
    import onnx

_SHORT = 448
"""Tokens up to which onnxruntime's kernel is as fast."""
_KERNEL = "GroupQueryAttention"
_HELD_SCORES = 3
"""Scores, their softmax, its 8 bits, and its products with values, in numbers of four bytes each."""


class LongAttention(msgspec.Struct, frozen=True, kw_only=True):
    """From where on attention is computed so, and what it takes; see manifest.Variant.

    Attributes:
        switch_length: tokens of the longest texts that onnxruntime's kernel computes.
        window_numbers: held for each token of longer ones.
    """

    switch_length: int
    window_numbers: int


def long_attention(encoder: Encoder, max_seq_len: int) -> LongAttention | None:
    """Of an encoder's attention; None where none of it has such a form, or no text is as long.

    Args:
        encoder: what the graph was built of.
        max_seq_len: no text is longer.
    """
    blocks = [layer.attention for layer in encoder.layers]
    blocks = [block for block in blocks if form_of(block) == "causal"]
    if not blocks or max_seq_len <= _SHORT:
        return None
    length = _SHORT
    while any((length - 1) % rows == 0 for block in blocks for rows in kernel_rows(block)):
        length -= 1  # a batch of that length would be padded beyond it
    heads = max(block.num_heads for block in blocks)
    return LongAttention(switch_length=length, window_numbers=_HELD_SCORES * BLOCK * heads)


def attend_in_int8(graph: onnx.ModelProto, long: LongAttention) -> None:
    """Give a graph's causal attention a branch for long texts.

    Args:
        graph: built for the CPU of what `long` is of; changed in place.
        long: where the branch begins.
    """
    from onnx import numpy_helper

    canvas = Canvas(constants="int8_attention.constant")
    canvas.scope("long_texts")
    texts = measured(canvas)
    length = canvas.op("Squeeze", texts.length)
    is_long = canvas.op("Greater", length, canvas.constant(long.switch_length))
    for nodes in _lists_of_nodes(graph.graph):
        made: list[onnx.NodeProto] = []
        for node in nodes:
            replaced = node.op_type == _KERNEL
            made.append(_chosen(canvas.branch(), node, is_long, texts) if replaced else node)
        del nodes[:]
        nodes.extend([*canvas.nodes, *made] if nodes is graph.graph.node else made)
    graph.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(load(), dtype), name)
        for name, (_, dtype, load) in canvas.weights.items()
    )


def _lists_of_nodes(graph: onnx.GraphProto) -> Iterator[MutableSequence[onnx.NodeProto]]:
    """Of the graph and of its branches, inner ones first."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _lists_of_nodes(attribute.g)
    yield graph.node


def _chosen(canvas: Canvas, node: onnx.NodeProto, condition: str, texts: Texts) -> onnx.NodeProto:
    """What runs a kernel for short texts, and blocks for long ones.

    Args:
        canvas: of the branch for long texts.
        node: the kernel, of whose outputs the first alone is read.
        condition: whether a batch is of long texts.
        texts: the batch's.
    """
    import onnx
    from onnx import TensorProto, helper

    canvas.scope(f"{node.name}.long")
    mixed = BlockNodes(canvas, node, texts).mixed()
    short = onnx.NodeProto()
    short.CopyFrom(node)
    short.output[:] = [name and f"{name}.short" for name in node.output]
    branches = {
        part: helper.make_graph(
            nodes, part, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
        )
        for part, nodes, name in (
            ("then_branch", canvas.nodes, mixed),
            ("else_branch", [short], short.output[0]),
        )
    }
    return helper.make_node("If", [condition], [node.output[0]], name=f"{node.name}.by_length", **branches)
