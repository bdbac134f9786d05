"""Scores of contents and distances: what each query and key gives at every distance, looked up by pair."""

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
    first, stop, index = positions.distance_rows(relative.row_at, block.num_heads)
    canvas.scope(scope)
    parts = []
    for made, linear, of_query in ((heads[0], relative.key, True), (heads[1], relative.query, False)):
        if linear is None:
            continue
        table = _table(canvas, weights, block, relative, linear, dtype)
        # (num_heads, rows that this length has, head_dim)
        near = canvas.op("Slice", table, first, stop, canvas.constant([1]))
        if of_query:
            products = canvas.op("MatMul", made, canvas.op("Transpose", near, perm=[0, 2, 1]))
        else:
            products = canvas.op("MatMul", near, canvas.op("Transpose", made, perm=[0, 1, 3, 2]))
        parts.append(canvas.op("GatherElements", products, index, axis=3 if of_query else 2))
    return parts[0] if len(parts) == 1 else canvas.op("Add", *parts)


def _table(
    canvas: Canvas,
    weights: Weights,
    block: Attention,
    relative: Disentangled,
    linear: Linear,
    dtype: npt.DTypeLike,
) -> str:
    """The projected rows, scaled: (num_heads, rows, head_dim)."""
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
        placed: FloatArray = made.transpose(1, 0, 2).astype(np.float32)
        return placed

    shape = (block.num_heads, count, block.head_dim)
    return canvas.weight(f"{linear.weight.name}.distances", shape, load, dtype)
