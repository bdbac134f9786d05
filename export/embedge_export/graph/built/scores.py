"""Scores of queries and keys, their softmax, and its products with values, in single operators."""

from __future__ import annotations

import numpy as np

from embedge_export.families.structure import Attention
from embedge_export.graph.built.canvas import Canvas


def heads_apart(canvas: Canvas, rows: str, num_heads: int, head_dim: int, num_rows: str) -> str:
    """(…, num_heads * head_dim) to (texts, num_heads, num_rows, head_dim)."""
    sizes = canvas.constant([num_heads, head_dim])
    shape = canvas.op("Concat", canvas.constant([-1]), num_rows, sizes, axis=0)
    return canvas.op("Transpose", canvas.op("Reshape", rows, shape), perm=[0, 2, 1, 3])


def scores_of(canvas: Canvas, queries: str, keys: str, block: Attention) -> str:
    """Scaled and, where they are, capped products of queries and keys, each (…, rows, head_dim)."""
    cap = block.softcap
    alpha = block.scale if cap is None else block.scale / cap
    scores = canvas.contrib("FusedMatMul", queries, keys, transB=1, alpha=alpha)
    if cap is None:
        return scores
    return canvas.op("Mul", canvas.op("Tanh", scores), canvas.constant(cap, np.float32))


def attended(
    canvas: Canvas, heads: tuple[str, str, str], block: Attention, bias: str, lengths: tuple[str, str]
) -> str:
    """Softmax of scores times values, (texts, queries, num_heads, head_dim).

    Args:
        canvas: the graph.
        heads: queries, keys and values, (texts, heads, rows, head_dim) each.
        block: what attends.
        bias: what scores get added.
        lengths: of queries and keys, int64 (1,) each.
    """
    q, k, v = heads
    kv_heads, dim = block.num_kv_heads, block.head_dim
    grouped = block.num_heads != kv_heads
    queries, keys = lengths
    if grouped:
        # (texts, kv_heads, groups * queries, dim): the heads of a group share one product with their keys
        q = canvas.op("Reshape", q, canvas.constant([0, kv_heads, -1, dim]))
    scores = scores_of(canvas, q, k, block)
    if grouped:
        apart = canvas.op("Concat", canvas.constant([0, block.num_heads]), queries, keys, axis=0)
        scores = canvas.op("Reshape", scores, apart)
    shares = canvas.op("Softmax", canvas.op("Add", scores, bias), axis=-1)
    if grouped:
        together = canvas.op("Concat", canvas.constant([0, kv_heads, -1]), keys, axis=0)
        shares = canvas.op("Reshape", shares, together)
    mixed = canvas.op("MatMul", shares, v)
    if grouped:
        sizes = canvas.constant([0, block.num_heads]), queries, canvas.constant([dim])
        mixed = canvas.op("Reshape", mixed, canvas.op("Concat", *sizes, axis=0))
    return canvas.op("Transpose", mixed, perm=[0, 2, 1, 3])
