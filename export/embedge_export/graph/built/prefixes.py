"""Keys and values of tokens that come before those of a run: given to it, and taken from it.

GroupQueryAttention takes earlier keys and values for one text at a time only, so a batch after a prefix attends by
single operators; the prefix's keys and values are not repeated for its texts. Both ways are in the graph, and a run
takes one of them. A prefix itself is a run of one text whose keys and values are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embedge.manifest import PREFIX_TOKENS, made_names, prefix_names
from embedge_export.families.structure import Attention, Encoder
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.positions import MASKED
from embedge_export.graph.built.scores import scores_of

if TYPE_CHECKING:
    import onnx


class PrefixNodes:
    """Emits attention that may come after a prefix, layer by layer.

    Args:
        canvas: the graph.
        encoder: one that `takes_prefix`.
    """

    def __init__(self, canvas: Canvas, encoder: Encoder) -> None:
        self._canvas = canvas
        self._layers = iter(range(len(encoder.layers)))
        for index, layer in enumerate(encoder.layers):
            empty = np.zeros((1, layer.attention.num_kv_heads, 0, layer.attention.head_dim), np.float32)
            for name in prefix_names(index):
                canvas.weight(name, empty.shape, partial(np.zeros_like, empty))
        canvas.weight(PREFIX_TOKENS, (1,), lambda: np.zeros(1, np.int64), np.int64)
        canvas.scope("prefix")
        self.length = canvas.op("Squeeze", canvas.op("Shape", prefix_names(0)[0], start=2, end=3))
        self._there = canvas.op("Greater", self.length, canvas.constant(0))

    def attention(
        self,
        qkv: tuple[str, str, str],
        block: Attention,
        scope: str,
        ordinary: Callable[[Canvas, tuple[str, str, str]], str],
    ) -> str:
        """The next layer's attention, (batch, seq_len, num_heads * head_dim).

        Args:
            qkv: queries, keys and values, each (batch, seq_len, heads * head_dim), rotated.
            block: what it is.
            scope: how nodes are named.
            ordinary: emits attention without a prefix.
        """
        from onnx import TensorProto

        index = next(self._layers)
        whole, after = self._canvas.branch(), self._canvas.branch()
        whole.scope(f"{scope}.whole")
        mixed = ordinary(whole, qkv)
        kept = [_kept(whole, rows, block) for rows in qkv[1:]]
        after.scope(f"{scope}.after")
        results = _after(after, qkv, block, prefix_names(index))
        self._canvas.scope(scope)
        outputs = self._canvas.choose(
            self._there, (after, results), (whole, [mixed, *kept]), TensorProto.FLOAT
        )
        for old, new in zip(outputs[1:], made_names(index), strict=True):
            self._canvas.rename_output(old, new)
        return outputs[0]


def _kept(canvas: Canvas, rows: str, block: Attention) -> str:
    """Keys or values of the tokens to keep, (batch, seq_len, width) to (batch, num_kv_heads, tokens, head_dim)."""
    rows = canvas.op("Slice", rows, canvas.constant([0]), PREFIX_TOKENS, canvas.constant([1]))
    heads = canvas.op("Reshape", rows, canvas.constant([0, 0, block.num_kv_heads, block.head_dim]))
    return canvas.op("Transpose", heads, perm=[0, 2, 1, 3])


def _hidden(canvas: Canvas, shape: tuple[str, str], edge: str, *, upper: bool) -> str:
    """MASKED on and above a diagonal, or on and below it; else 0: (queries, keys)."""
    from onnx import numpy_helper

    rectangle = canvas.op("Concat", *shape, axis=0)
    value = numpy_helper.from_array(np.array([MASKED], np.float32))
    masked = canvas.op("ConstantOfShape", rectangle, value=value)
    return canvas.op("Trilu", masked, edge, upper=int(upper))


def _after(canvas: Canvas, qkv: tuple[str, str, str], block: Attention, prefix: tuple[str, str]) -> list[str]:
    """Attention of a batch's texts to a prefix and to themselves; and twice nothing, as keys and values to keep."""
    heads, kv_heads, dim = block.num_heads, block.num_kv_heads, block.head_dim
    groups = heads // kv_heads
    q, k, v = qkv
    length = canvas.op("Shape", q, start=1, end=2)
    count = canvas.op("Shape", prefix[0], start=2, end=3)
    # (kv_heads, texts, groups, queries, dim): one product with the prefix's keys for all texts
    q = canvas.op("Reshape", q, canvas.constant([0, 0, kv_heads, groups, dim]))
    q = canvas.op("Transpose", q, perm=[2, 0, 3, 1, 4])
    by_text = canvas.constant([kv_heads, -1, groups])
    of_texts = canvas.op("Shape", q, start=1, end=2)
    k, v = (
        canvas.op(
            "Transpose",
            canvas.op("Reshape", part, canvas.constant([0, 0, kv_heads, dim])),
            perm=[2, 0, 1, 3],
        )
        for part in (k, v)
    )
    rows = canvas.op("Reshape", q, canvas.constant([1, kv_heads, -1, dim]))
    far = scores_of(canvas, rows, prefix[0], block)
    rows = canvas.op(
        "Reshape",
        q,
        canvas.op("Concat", canvas.constant([kv_heads]), of_texts, canvas.constant([-1, dim]), axis=0),
    )
    near = scores_of(canvas, rows, k, block)
    near = canvas.op("Reshape", near, canvas.op("Concat", by_text, length, length, axis=0))
    near = canvas.op("Add", near, _hidden(canvas, (length, length), canvas.constant(1), upper=True))
    far = canvas.op("Reshape", far, canvas.op("Concat", by_text, length, count, axis=0))
    if block.window is not None:
        outside = canvas.constant(-1 - block.window[0])
        near = canvas.op("Add", near, _hidden(canvas, (length, length), outside, upper=False))
        outside = canvas.op("Add", canvas.op("Squeeze", count), outside)
        far = canvas.op("Add", far, _hidden(canvas, (length, count), outside, upper=False))
    shares = canvas.op("Softmax", canvas.op("Concat", far, near, axis=-1), axis=-1)
    far, near = canvas.ops("Split", shares, canvas.op("Concat", count, length, axis=0), outputs=2, axis=-1)
    far = canvas.op("Reshape", far, canvas.op("Concat", canvas.constant([1, kv_heads, -1]), count, axis=0))
    far = canvas.op("MatMul", far, prefix[1])
    near = canvas.op(
        "Reshape",
        near,
        canvas.op("Concat", canvas.constant([kv_heads]), of_texts, canvas.constant([-1]), length, axis=0),
    )
    near = canvas.op("MatMul", near, v)
    apart = canvas.op("Concat", by_text, length, canvas.constant([dim]), axis=0)
    mixed = canvas.op("Add", canvas.op("Reshape", far, apart), canvas.op("Reshape", near, apart))
    mixed = canvas.op("Transpose", mixed, perm=[1, 3, 0, 2, 4])
    none = [canvas.constant([0]), canvas.constant([0]), canvas.constant([2])]
    return [
        canvas.op("Reshape", mixed, canvas.constant([0, 0, heads * dim])),
        *(canvas.op("Slice", name, *none) for name in prefix),
    ]


def offer_prefix(graph: onnx.ModelProto, encoder: Encoder) -> None:
    """Make the tokens before a text inputs of a graph, which may be left out, and outputs of it.

    Args:
        graph: built of the encoder, which `takes_prefix`; changed in place.
        encoder: what it was built of.
    """
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info(PREFIX_TOKENS, TensorProto.INT64, [1])]
    outputs = []
    for index, layer in enumerate(encoder.layers):
        shape = [1, layer.attention.num_kv_heads, "prefix_length", layer.attention.head_dim]
        inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in prefix_names(index)]
        shape[2] = "made_length"
        outputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in made_names(index)]
    graph.graph.input.extend(inputs)
    graph.graph.output.extend(outputs)
