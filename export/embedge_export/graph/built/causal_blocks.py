"""Causal attention in blocks of queries, one after another, so that memory goes with a text's length.

For what onnxruntime's kernel does not compute so: it holds the scores of whole texts where they are capped, takes no
heads of odd sizes, and before 1.24 sees one token more in a window than later versions do.

Queries and keys are filled up to whole blocks, so that no text's numbers depend on what its batch is padded to.
"""

from __future__ import annotations

import msgspec
import numpy as np

from embedge_export.families.structure import Attention
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.positions import MASKED, POSITIONS_SCOPE, PositionNodes
from embedge_export.graph.built.scores import attended

BLOCK = 64
"""Queries of a block; of a text that is shorter, as many as it has, rounded up."""
_SHORT_STEP = 16
"""To a multiple of so many."""

_COPIES = 3
"""Scores, masked scores and their softmax."""


class Blocks(msgspec.Struct, frozen=True, kw_only=True):
    """Names of what blocks are made with.

    Attributes:
        size: queries of a block, int64 (1,).
        last: number of a text's last block, an int64 scalar.
        missing: what the last block is larger than what is left for it, int64 (1,).
        reach: tokens before a block that it may see, int64 (1,).
        bias: what the scores of a block get added, from that many tokens before it on, float32 (size, reach + size).
    """

    size: str
    last: str
    missing: str
    reach: str
    bias: str


class CausalBlockNodes:
    """Emits attention in blocks.

    Args:
        canvas: the graph.
        positions: of the same graph.
    """

    def __init__(self, canvas: Canvas, positions: PositionNodes) -> None:
        self._canvas = canvas
        self._positions = positions
        self._made: dict[int | None, Blocks] = {}

    def of(self, block: Attention) -> Blocks:
        """The blocks of an attention, each window once."""
        before = None if block.window is None else block.window[0]
        if before not in self._made:
            self._made[before] = self._make(before)
        return self._made[before]

    def _make(self, before: int | None) -> Blocks:
        canvas, length = self._canvas, self._positions.causal_length()
        canvas.scope(POSITIONS_SCOPE)
        step, one, none = canvas.constant([_SHORT_STEP]), canvas.constant(1), canvas.constant(0)
        below = canvas.op("Sub", length, canvas.constant([1]))
        steps = canvas.op("Add", canvas.op("Div", below, step), canvas.constant([1]))
        size = canvas.op("Min", canvas.op("Mul", steps, step), canvas.constant([BLOCK]))
        last = canvas.op("Div", below, size)
        reach = canvas.op("Mul", last, size)
        whole = canvas.op("Add", reach, size)
        if before is not None:
            reach = canvas.op("Min", reach, canvas.constant([before]))
        first = canvas.op("Squeeze", canvas.op("Neg", reach))
        end = canvas.op("Squeeze", size)
        keys = canvas.op("Range", first, end, one)
        queries = canvas.op("Unsqueeze", canvas.op("Range", none, end, one), canvas.constant([1]))
        unseen = canvas.op("Greater", keys, queries)
        if before is not None:
            gone = canvas.op("Less", canvas.op("Add", keys, canvas.constant(before)), queries)
            unseen = canvas.op("Or", unseen, gone)
        low, zero = canvas.constant(MASKED, np.float32), canvas.constant(0.0, np.float32)
        return Blocks(
            size=size,
            last=canvas.op("Squeeze", last),
            missing=canvas.op("Sub", whole, length),
            reach=reach,
            bias=canvas.op("Where", unseen, low, zero),
        )


def held_in_blocks(block: Attention) -> int:
    """Numbers that such attention holds for each token: scores of a block, and rows in whole blocks."""
    rows = 2 * (block.num_heads + block.num_kv_heads) * block.head_dim
    return _COPIES * BLOCK * block.num_heads + 2 * rows


def attended_in_blocks(canvas: Canvas, qkv: tuple[str, str, str], block: Attention, blocks: Blocks) -> str:
    """Attention, (batch, seq_len, num_heads * head_dim).

    Args:
        canvas: the graph, or a branch of it.
        qkv: queries, keys and values, (batch, seq_len, heads * head_dim) each.
        block: what attends.
        blocks: of it.
    """
    counts = (block.num_heads, block.num_kv_heads, block.num_kv_heads)
    heads = tuple(_whole(canvas, rows, n, block, blocks) for rows, n in zip(qkv, counts, strict=True))

    def emit(body: Canvas, number: str) -> tuple[str, str]:
        return body.op("Less", number, blocks.last), _round(body, number, heads, block, blocks)

    # (blocks, batch, block, num_heads * head_dim)
    made = canvas.repeat("block", emit)
    rows = canvas.op("Transpose", made, perm=[1, 0, 2, 3])
    rows = canvas.op("Reshape", rows, canvas.constant([0, -1, block.num_heads * block.head_dim]))
    length = canvas.op("Shape", qkv[0], start=1, end=2)
    return canvas.op("Slice", rows, canvas.constant([0]), length, canvas.constant([1]))


def _whole(canvas: Canvas, rows: str, num_heads: int, block: Attention, blocks: Blocks) -> str:
    """(batch, seq_len, num_heads * head_dim) to (batch, num_heads, whole blocks, head_dim)."""
    pads = canvas.op("Concat", canvas.constant([0, 0, 0, 0]), blocks.missing, canvas.constant([0]), axis=0)
    rows = canvas.op("Pad", rows, pads)
    rows = canvas.op("Reshape", rows, canvas.constant([0, 0, num_heads, block.head_dim]))
    return canvas.op("Transpose", rows, perm=[0, 2, 1, 3])


def _round(body: Canvas, number: str, heads: tuple[str, ...], block: Attention, blocks: Blocks) -> str:
    """A block of each text over all that it sees, (batch, block, num_heads * head_dim)."""
    size, axis = blocks.size, body.constant([2])
    start = body.op("Mul", body.op("Unsqueeze", number, body.constant([0])), size)
    stop = body.op("Add", start, size)
    seen = body.op("Min", start, blocks.reach)
    first = body.op("Sub", start, seen)
    q, k, v = heads
    q = body.op("Slice", q, start, stop, axis)
    k, v = (body.op("Slice", rows, first, stop, axis) for rows in (k, v))
    ends = body.op("Add", blocks.reach, size)
    bias = body.op("Slice", blocks.bias, body.op("Sub", blocks.reach, seen), ends, body.constant([1]))
    mixed = attended(body, (q, k, v), block, bias, (size, body.op("Add", seen, size)))
    return body.op("Reshape", mixed, body.constant([0, 0, block.num_heads * block.head_dim]))
