"""Attention whose scores are capped, in single operators of CUDA."""

from __future__ import annotations

import numpy.typing as npt

from embedge_export.families.structure import Attention
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.positions import PositionNodes


def capped(
    canvas: Canvas,
    positions: PositionNodes,
    block: Attention,
    rows: tuple[str, str, str],
    mask: str,
    dtype: npt.DTypeLike,
) -> str:
    """Attention from single operators: ONNX's own caps the mask with the scores.

    Args:
        canvas: the graph.
        positions: of the same graph.
        block: what attends.
        rows: queries, keys and values, (batch, seq_len, heads * head_dim).
        mask: what capped scores get added, (batch, 1, seq_len, seq_len).
        dtype: of all of them.

    Returns:
        (batch, seq_len, num_heads * head_dim).
    """
    dim, kv_heads = block.head_dim, block.num_kv_heads
    query, key, value = rows
    assert block.softcap is not None
    cap, alpha = (canvas.constant(factor, dtype) for factor in (block.softcap, block.scale / block.softcap))
    q, k, v = (
        canvas.op("Transpose", canvas.op("Reshape", part, canvas.constant([0, 0, heads, dim])), perm=order)
        for part, heads, order in (
            (query, block.num_heads, [0, 2, 1, 3]),
            (key, kv_heads, [0, 2, 3, 1]),
            (value, kv_heads, [0, 2, 1, 3]),
        )
    )
    length = positions.seq_len()
    # the heads of a group share one product with their keys
    together = canvas.op("Concat", canvas.constant([0, kv_heads, -1]), length, axis=0)
    apart = canvas.op("Concat", canvas.constant([0, block.num_heads]), length, length, axis=0)
    grouped = canvas.op("Reshape", q, canvas.constant([0, kv_heads, -1, dim]))
    scores = canvas.op("Reshape", canvas.op("MatMul", canvas.op("Mul", grouped, alpha), k), apart)
    scores = canvas.op("Add", canvas.op("Mul", canvas.op("Tanh", scores), cap), mask)
    weights = canvas.op("Reshape", canvas.op("Softmax", scores, axis=-1), together)
    back = canvas.op("Concat", canvas.constant([0, block.num_heads]), length, canvas.constant([dim]), axis=0)
    mixed = canvas.op("Reshape", canvas.op("MatMul", weights, v), back)
    mixed = canvas.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return canvas.op("Reshape", mixed, canvas.constant([0, 0, block.num_heads * dim]))
