"""Scores of contents and distances: what each query and key gives at every distance, turned into a square."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from embedge.types import FloatArray
from embedge_export.families.structure import Attention, Disentangled, Linear
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.positions import PositionNodes
from embedge_export.graph.built.weights import Weights


def distance_scores(
    canvas: Canvas,
    weights: Weights,
    positions: PositionNodes,
    block: Attention,
    heads: tuple[str, str],
    dtype: npt.DTypeLike,
) -> str:
    """What scores get added, (batch, num_heads, seq_len, seq_len), already scaled; see structure.Disentangled.

    Projections of the table do not depend on the text: their products are written as weights.

    Args:
        canvas: the graph.
        weights: the checkpoint.
        positions: nodes of positions.
        block: attention that has such scores.
        heads: queries and keys, each (batch, num_heads, seq_len, head_dim), with biases.
        dtype: of both, and of the result.
    """
    relative = block.disentangled
    assert relative is not None
    scope = canvas.scope_name
    rows = positions.distance_rows(relative.row_at)
    canvas.scope(scope)
    parts = []
    for made, linear, later_first in ((heads[0], relative.key, True), (heads[1], relative.query, False)):
        if linear is None:
            continue
        table = _table(canvas, weights, block, relative, linear, dtype)
        # (num_heads, head_dim, 2 * seq_len), by distance
        near = canvas.op("Gather", table, rows[0] if later_first else rows[1], axis=2)
        square = _square(canvas, canvas.op("MatMul", made, near), positions)
        parts.append(square if later_first else canvas.op("Transpose", square, perm=[0, 1, 3, 2]))
    return parts[0] if len(parts) == 1 else canvas.op("Add", *parts)


def _table(
    canvas: Canvas,
    weights: Weights,
    block: Attention,
    relative: Disentangled,
    linear: Linear,
    dtype: npt.DTypeLike,
) -> str:
    """The projected rows, scaled: (num_heads, head_dim, rows)."""
    count = relative.table.shape[0]

    def load() -> FloatArray:
        table = weights.read(relative.table).astype(np.float64)
        if relative.norm is not None:
            table = table - table.mean(-1, keepdims=True)
            table /= np.sqrt((table**2).mean(-1, keepdims=True) + relative.norm.epsilon)
            table *= weights.read(relative.norm.weight)
            if relative.norm.bias is not None:
                table += weights.read(relative.norm.bias)
        made = table @ weights.read(linear.weight).T.astype(np.float64)
        if linear.bias is not None:
            made += weights.read(linear.bias)
        made = (made * block.scale).reshape(count, block.num_heads, block.head_dim)
        placed: FloatArray = made.transpose(1, 2, 0).astype(np.float32)
        return placed

    shape = (block.num_heads, block.head_dim, count)
    return canvas.weight(f"{linear.weight.name}.distances", shape, load, dtype)


def _square(canvas: Canvas, scores: str, positions: PositionNodes) -> str:
    """(…, n, 2 n), where column c of row i belongs to column i + c - (n - 1) of a square, to (…, n, n).

    Read as one line and from n - 1 on, the square's rows start every 2 n - 1 places.
    """
    length = positions.seq_len()
    one, two = canvas.constant([1]), canvas.constant([2])
    width = canvas.op("Sub", canvas.op("Mul", length, two), one)
    line = canvas.op("Reshape", scores, canvas.constant([0, 0, -1]))
    start = canvas.op("Sub", length, one)
    stop = canvas.op("Add", start, canvas.op("Mul", length, width))
    line = canvas.op("Slice", line, start, stop, two)
    shape = canvas.op("Concat", canvas.constant([0, 0]), length, width, axis=0)
    rows = canvas.op("Reshape", line, shape)
    return canvas.op("Slice", rows, canvas.constant([0]), length, canvas.constant([3]))
