"""int8 of causal attention in long texts: both of its products in 8 bits, in blocks, so memory goes with the length.

Queries are taken 128 at a time, in a loop over the blocks of a batch's texts. A block sees the blocks of keys before
its own whole, so that only in its own something is hidden. Nothing that is rounded depends on other texts or on
padding:

- Keys and values have one scale per text and channel, measured as they come. A key's goes into its query's channel, a
  value's comes back at the end.
- A block of queries has one scale, which comes back with the product.
- Weights of keys are taken 128 at a time, with one scale for each query and block of keys, which is the largest of
  them: what lies below a 500th of it is rounded to 0. The blocks' results are put together as online softmax does.
- The first token, to which decoders give most of the weight where nothing else matters, is no part of any block, and
  stays in float32: beside it all else would be rounded to 0.

choices.py has the figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge.types import FloatArray
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.positions import MASKED

if TYPE_CHECKING:
    import onnx

BLOCK = 128
"""Queries of a block, and keys."""
_SMALLEST = 1e-20
"""Scale of what is nothing but zeros."""


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """Names of what is known of a batch's texts.

    Attributes:
        batch, length, rest: how many, their padded length, and that without the first token, int64 (1,).
        num_blocks: of a text, int64 (1,).
        missing: what the last block is larger than what is left for it, int64 (1,).
        mask: attention_mask as float32 (batch, seq_len), 0 for the first token.
    """

    batch: str
    length: str
    rest: str
    num_blocks: str
    missing: str
    mask: str


def measured(canvas: Canvas) -> Texts:
    """Emit what blocks need to know of a batch's texts."""
    from onnx import TensorProto

    block = canvas.constant([BLOCK])
    length = canvas.op("Shape", "attention_mask", start=1, end=2)
    rest = canvas.op("Sub", length, canvas.constant([1]))
    num_blocks = canvas.op("Div", canvas.op("Add", rest, canvas.constant([BLOCK - 1])), block)
    mask = canvas.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    for pads in ([0, -1, 0, 0], [0, 1, 0, 0]):
        mask = canvas.op("Pad", mask, canvas.constant(pads))
    return Texts(
        batch=canvas.op("Shape", "attention_mask", start=0, end=1),
        length=length,
        rest=rest,
        num_blocks=num_blocks,
        missing=canvas.op("Sub", canvas.op("Mul", num_blocks, block), rest),
        mask=mask,
    )


class BlockNodes:
    """Emits attention in blocks in place of a kernel.

    Args:
        canvas: of the branch.
        node: the kernel, GroupQueryAttention.
        texts: the batch's.
    """

    def __init__(self, canvas: Canvas, node: onnx.NodeProto, texts: Texts) -> None:
        stated = {each.name: each for each in node.attribute}
        self._canvas = canvas
        self._texts = texts
        self._inputs = node.input[:3]
        self._scale = stated["scale"].f
        self._heads = stated["num_heads"].i
        self._kv_heads = stated["kv_num_heads"].i
        self._groups = self._heads // self._kv_heads
        self._rows = self._groups * BLOCK

    def mixed(self) -> str:
        """(batch, seq_len, num_heads * head_dim)."""
        canvas, kv_heads, groups = self._canvas, self._kv_heads, self._groups
        q, k, v = self._inputs
        keys, key_scales = self._rounded(k, [0, 3, 1, 4, 2])
        values, value_scales = self._rounded(v, [0, 3, 1, 2, 4])
        key, value = self._first(k), self._first(v)
        by_column, by_row = canvas.constant([0, kv_heads, 1, -1, 1]), canvas.constant([0, kv_heads, 1, 1, -1])
        first = (
            canvas.op("Reshape", canvas.op("Div", key, key_scales), by_column),
            canvas.op("Reshape", canvas.op("Div", value, value_scales), by_row),
        )
        # (batch * blocks, block, num_heads * head_dim)
        blocks = self._loop(self._queries(q, key_scales), (keys, values), first)
        width = canvas.op("Shape", blocks, start=2, end=3)
        rows = canvas.op("Reshape", blocks, self._joined(self._texts.batch, canvas.constant([-1]), width))
        rows = canvas.op("Slice", rows, canvas.constant([0]), self._texts.rest, canvas.constant([1]))
        rows = canvas.op("Reshape", rows, canvas.constant([0, 0, kv_heads, groups, -1]))
        heads = canvas.constant([0, 1, kv_heads, 1, -1])
        rows = canvas.op("Mul", rows, canvas.op("Reshape", value_scales, heads))
        # the first token sees itself alone
        alone = canvas.op("Expand", canvas.op("Reshape", value, heads), canvas.constant([1, 1, 1, groups, 1]))
        rows = canvas.op("Concat", alone, rows, axis=1)
        return canvas.op("Reshape", rows, self._joined(canvas.constant([0, 0]), width))

    def _first(self, rows: str) -> str:
        """Of the first token, (batch, 1, width)."""
        canvas = self._canvas
        return canvas.op("Slice", rows, canvas.constant([0]), canvas.constant([1]), canvas.constant([1]))

    def _joined(self, *parts: str) -> str:
        return self._canvas.op("Concat", *parts, axis=0)

    def _rounded(self, rows: str, perm: list[int]) -> tuple[str, str]:
        """Keys or values in 8 bits, (batch, kv_heads, blocks, …), and their scales, (batch, 1, width)."""
        canvas = self._canvas
        real = canvas.op("Mul", rows, canvas.op("Unsqueeze", self._texts.mask, canvas.constant([2])))
        largest = canvas.op("ReduceMax", canvas.op("Abs", real), canvas.constant([1]), keepdims=1)
        scales = self._at_least(canvas, canvas.op("Mul", largest, canvas.constant(1 / 127, np.float32)))
        steps = canvas.op("Mul", real, canvas.op("Reciprocal", scales))
        rounded = canvas.op(
            "QuantizeLinear", steps, canvas.constant(1, np.float32), canvas.constant(0, np.int8)
        )
        pads = self._joined(canvas.constant([0, -1, 0, 0]), self._texts.missing, canvas.constant([0]))
        rounded = canvas.op("Pad", rounded, pads)
        sizes = canvas.constant([BLOCK, self._kv_heads, -1])
        rounded = canvas.op(
            "Reshape", rounded, self._joined(self._texts.batch, self._texts.num_blocks, sizes)
        )
        return canvas.op("Transpose", rounded, perm=perm), scales

    def _at_least(self, canvas: Canvas, scale: str) -> str:
        return canvas.op("Max", scale, canvas.constant(_SMALLEST, np.float32))

    def _queries(self, rows: str, key_scales: str) -> str:
        """Blocks of queries, each channel times its keys' scale: (batch * blocks, kv_heads, 1, rows, head_dim)."""
        canvas, kv_heads, groups = self._canvas, self._kv_heads, self._groups
        heads = canvas.op("Reshape", rows, canvas.constant([0, 0, kv_heads, groups, -1]))
        scales = canvas.op("Reshape", key_scales, canvas.constant([0, 1, kv_heads, 1, -1]))
        mask = canvas.op("Unsqueeze", self._texts.mask, canvas.constant([2, 3, 4]))
        scaled = canvas.op("Mul", heads, canvas.op("Mul", scales, mask))
        pads = self._joined(
            canvas.constant([0, -1, 0, 0, 0, 0]), self._texts.missing, canvas.constant([0, 0, 0])
        )
        scaled = canvas.op("Pad", scaled, pads)
        count = canvas.op("Mul", self._texts.batch, self._texts.num_blocks)
        sizes = canvas.constant([BLOCK, kv_heads, groups, -1])
        blocks = canvas.op("Reshape", scaled, self._joined(count, sizes))
        blocks = canvas.op("Transpose", blocks, perm=[0, 2, 3, 1, 4])
        return canvas.op("Reshape", blocks, canvas.constant([0, kv_heads, 1, self._rows, -1]))

    def _loop(self, queries: str, stored: tuple[str, str], first: tuple[str, str]) -> str:
        """Every block of queries in a round of its own: (batch * blocks, block, num_heads * head_dim)."""
        canvas = self._canvas
        count = canvas.op("Squeeze", canvas.op("Mul", self._texts.batch, self._texts.num_blocks))

        def emit(body: Canvas, number: str) -> tuple[str, str]:
            further = body.op("Less", body.op("Add", number, body.constant(1)), count)
            return further, self._block(body, number, queries, stored, first)

        return canvas.repeat("block", emit)

    def _block(
        self, body: Canvas, number: str, queries: str, stored: tuple[str, str], first: tuple[str, str]
    ) -> str:
        """A block of queries over all that it sees, (block, num_heads * head_dim).

        Args:
            body: of the loop.
            number: of the block.
            queries: all.
            stored: keys and values.
            first: those of the first token, in the others' steps.
        """
        one, axis = body.constant([1]), body.constant([2])
        at = body.op("Unsqueeze", number, body.constant([0]))
        text = body.op("Div", at, self._texts.num_blocks)
        before = body.op("Mod", at, self._texts.num_blocks)
        block = body.op("Gather", queries, at, axis=0)
        key, value = (body.op("Gather", each, text, axis=0) for each in first)
        score = body.contrib("FusedMatMul", block, key, alpha=self._scale)
        rounded = self._rounded_queries(body, block)
        far = self._seen(body, rounded, (*stored, text), (body.constant([0]), before))
        # rows are those of a group's heads, one after the other
        later = np.tile(np.triu(np.full((BLOCK, BLOCK), MASKED, np.float32), 1), (self._groups, 1))
        near = self._seen(body, rounded, (*stored, text), (before, body.op("Add", before, one)), later)
        highest = body.op("Concat", score, far[0], near[0], axis=2)
        # a block's largest share is 1 by the sum of its exponentials
        alone = body.constant(np.ones((1, self._kv_heads, 1, self._rows, 1)), np.float32)
        largest = body.op("Concat", alone, far[1], near[1], axis=2)
        weights = body.op("Exp", body.op("Sub", highest, body.op("ReduceMax", highest, axis, keepdims=1)))
        total = body.op("ReduceSum", body.op("Div", weights, largest), axis, keepdims=1)
        sizes = body.op("Concat", one, before, one, axis=0)
        shares = body.ops("Split", body.op("Div", weights, total), sizes, outputs=3, axis=2)
        parts = [body.op("Mul", rows, by) for rows, by in zip((value, far[2], near[2]), shares, strict=True)]
        mixed = body.op("Sum", parts[0], body.op("ReduceSum", parts[1], axis, keepdims=1), parts[2])
        heads = body.op("Reshape", mixed, body.constant([self._heads, BLOCK, -1]))
        return body.op("Reshape", body.op("Transpose", heads, perm=[1, 0, 2]), body.constant([BLOCK, -1]))

    def _rounded_queries(self, body: Canvas, queries: str) -> tuple[str, str]:
        """A block of queries in 8 bits, and what its products with keys are multiplied by."""
        largest = body.op("ReduceMax", body.op("Abs", queries), keepdims=0)
        scale = self._at_least(body, body.op("Mul", largest, body.constant(1 / 127, np.float32)))
        rounded = body.op("QuantizeLinear", queries, scale, body.constant(128, np.uint8))
        return rounded, body.op("Mul", scale, body.constant(self._scale, np.float32))

    def _seen(
        self,
        body: Canvas,
        queries: tuple[str, str],
        stored: tuple[str, str, str],
        part: tuple[str, str],
        hidden: FloatArray | None = None,
    ) -> tuple[str, str, str]:
        """A block of queries over blocks of keys, of which there may be none.

        Args:
            body: of the loop.
            queries: in 8 bits, and their scale.
            stored: keys, values, and which text of them.
            part: the first block and that after the last.
            hidden: what scores get added, float32 (rows, block).

        Returns:
            Each block's largest score, its largest share, and its sum of values weighted by shares of the largest.
        """
        keys, values, text = stored
        starts = body.op("Concat", text, part[0], axis=0)
        stops = body.op("Concat", body.op("Add", text, body.constant([1])), part[1], axis=0)
        keys, values = (
            body.op("Slice", rows, starts, stops, body.constant([0, 2])) for rows in (keys, values)
        )
        one = body.constant(1, np.float32)
        scores = body.contrib(
            "MatMulIntegerToFloat", queries[0], keys, queries[1], one, body.constant(128, np.uint8)
        )
        if hidden is not None:
            scores = body.op("Add", scores, body.constant(hidden, np.float32))
        shares = body.op("Softmax", scores, axis=-1)
        highest, largest = (
            body.op("ReduceMax", rows, body.constant([-1]), keepdims=1) for rows in (scores, shares)
        )
        step = body.constant(1 / 255, np.float32)
        # a row of shares is a block, by its largest
        rounded = body.op("QuantizeLinear", shares, body.op("Mul", largest, step), axis=-1, block_size=BLOCK)
        return highest, largest, body.contrib("MatMulIntegerToFloat", rounded, values, step, one)
