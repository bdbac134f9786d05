"""Rotary positions in single operators, for execution providers that have no operator of their own for them."""

from __future__ import annotations

from embedge_export.families.structure import Attention
from embedge_export.graph.built.canvas import Canvas


def turn_plainly(
    canvas: Canvas, rows: str, rotation: tuple[str, str], num_heads: int, block: Attention
) -> str:
    """Turn the first components of each head, the two halves of them as pairs; others stay as they are.

    Args:
        canvas: the graph.
        rows: (batch, seq_len, num_heads * head_dim).
        rotation: cosines and sines, each (seq_len, number of pairs).
        num_heads: of the rows.
        block: whose heads they are.

    Returns:
        Of the shape of `rows`.
    """
    assert block.rotary is not None
    pairs, dim = len(block.rotary.frequencies), block.head_dim
    cosines, sines = (canvas.op("Unsqueeze", part, canvas.constant([1])) for part in rotation)
    heads = canvas.op("Reshape", rows, canvas.constant([0, 0, num_heads, dim]))

    def between(start: int, end: int) -> str:
        return canvas.op(
            "Slice", heads, canvas.constant([start]), canvas.constant([end]), canvas.constant([3])
        )

    first, second = between(0, pairs), between(pairs, 2 * pairs)
    turned = [
        canvas.op("Sub", canvas.op("Mul", first, cosines), canvas.op("Mul", second, sines)),
        canvas.op("Add", canvas.op("Mul", second, cosines), canvas.op("Mul", first, sines)),
    ]
    if 2 * pairs < dim:
        turned.append(between(2 * pairs, dim))
    joined = canvas.op("Concat", *turned, axis=3)
    return canvas.op("Reshape", joined, canvas.constant([0, 0, num_heads * dim]))
