"""Token ids to the sum of their rows: words, positions, types."""

from __future__ import annotations

import numpy.typing as npt

from embedge.types import FloatArray
from embedge_export.families.structure import Embedding, LearntPositions
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.positions import PositionNodes
from embedge_export.graph.built.weights import Weights


def embedded(
    canvas: Canvas, weights: Weights, positions: PositionNodes, embedding: Embedding, dtype: npt.DTypeLike
) -> str:
    """The sum, (batch, seq_len, size), neither normalised nor projected.

    Args:
        canvas: the graph.
        weights: the checkpoint.
        positions: nodes of positions.
        embedding: what is added.
        dtype: of the tables and the sum.
    """
    canvas.scope("embedding")
    words, learnt, types = embedding.words, embedding.positions, embedding.types
    table = canvas.weight(words.name, words.shape, lambda: weights.read(words), dtype)
    rows = canvas.op("Gather", table, "input_ids")
    if embedding.scale != 1.0:
        rows = canvas.op("Mul", rows, canvas.constant(embedding.scale, dtype))
    if learnt is not None:
        rows = canvas.op("Add", rows, _learnt_rows(canvas, weights, positions, embedding, learnt, dtype))
    if types is not None and embedding.types_input:
        table = canvas.weight(types.name, types.shape, lambda: weights.read(types), dtype)
        rows = canvas.op("Add", rows, canvas.op("Gather", table, "token_type_ids"))
    elif types is not None and learnt is None:
        first = (1, types.shape[1])
        rows = canvas.op(
            "Add", rows, canvas.weight(types.name, first, lambda: weights.read(types)[:1], dtype)
        )
    return rows


def _learnt_rows(
    canvas: Canvas,
    weights: Weights,
    positions: PositionNodes,
    embedding: Embedding,
    learnt: LearntPositions,
    dtype: npt.DTypeLike,
) -> str:
    """Rows of the positions, with the row of type 0 in them where types are no input."""
    table, fixed = learnt.table, None if embedding.types_input else embedding.types

    def load() -> FloatArray:
        rows = weights.read(table)
        return rows if fixed is None else rows + weights.read(fixed)[:1]

    name = canvas.weight(table.name, table.shape, load, dtype)
    at = positions.seq_len() if learnt.kind == "range" else positions.position_ids(learnt)
    canvas.scope("embedding")
    if learnt.kind == "range":
        return canvas.op("Slice", name, canvas.constant([0]), at, canvas.constant([0]))
    return canvas.op("Gather", name, at)
