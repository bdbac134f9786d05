"""Projections: weights as the graph multiplies them, with what could be folded into them beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from embedge.types import FloatArray, IntArray
from embedge_export.families.structure import Linear
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.weights import Weights

LoadFloats = Callable[[], FloatArray]


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """A matrix ready to be multiplied with from the right, read when it is needed.

    Attributes:
        name: of the weight in the graph.
        shape: (in_features, out_features).
        load: the matrix, float32.
        load_bias: what is added to the product, float32 (out_features,); None for nothing.
    """

    name: str
    shape: tuple[int, int]
    load: LoadFloats
    load_bias: LoadFloats | None = None


def projection(weights: Weights, linear: Linear, bias: bool = True) -> Projection:
    """A stored projection as it is, or without its bias."""
    stored = linear.bias
    return Projection(
        name=_name(linear),
        shape=(linear.in_features, linear.out_features),
        load=lambda: weights.read(linear.weight).T,
        load_bias=None if stored is None or not bias else lambda: weights.read(stored),
    )


def _name(linear: Linear) -> str:
    rows, share = linear.weight.rows, linear.weight.share
    if share is not None:
        return f"{linear.weight.name}[{share[0]}/{share[1]}]"
    return linear.weight.name if rows is None else f"{linear.weight.name}[{rows[0]}:{rows[1]}]"


def absorbed_bias(weights: Weights, output: Linear, value: Linear) -> LoadFloats | None:
    """The bias of attention's output with that of the values in it: the weights of a row of attention sum to 1.

    Args:
        weights: the checkpoint.
        output: projection after attention, (hidden_size, num_heads * head_dim).
        value: projection of the values; its bias must be given to every head as it stands.
    """
    value_bias, output_bias = value.bias, output.bias
    if value_bias is None:
        return None if output_bias is None else lambda: weights.read(output_bias)

    def load() -> FloatArray:
        moved = weights.read(output.weight).astype(np.float64) @ weights.read(value_bias)
        if output_bias is not None:
            moved = moved + weights.read(output_bias)
        return moved.astype(np.float32)

    return load


def with_pairs_together(matrix: Projection, num_heads: int) -> Projection:
    """Put each head's component i beside component i + head_dim / 2, with which it is rotated."""
    order = pair_order(num_heads, matrix.shape[1])
    load_bias = matrix.load_bias
    return Projection(
        name=f"{matrix.name}.pairs",
        shape=matrix.shape,
        load=lambda: matrix.load()[:, order],
        load_bias=None if load_bias is None else lambda: load_bias()[order],
    )


def pair_order(num_heads: int, size: int) -> IntArray:
    """Which of `size` components of heads stands where, once those that are rotated together are neighbours."""
    return np.arange(size).reshape(num_heads, 2, -1).swapaxes(1, 2).reshape(-1)


def pad_heads(matrix: Projection, num_heads: int, fill: float, suffix: str, bias: bool = True) -> Projection:
    """Give each head one more component, whose weights are 0 and whose bias is `fill`.

    Args:
        matrix: (in_features, num_heads * head_dim).
        num_heads: how many heads its columns hold.
        fill: bias of the new component.
        suffix: tells the new weight from the old.
        bias: keep the bias, or leave all of it out, `fill` included.

    Returns:
        (in_features, num_heads * (head_dim + 1)).
    """
    inner, outer = matrix.shape
    head_dim = outer // num_heads

    def load() -> FloatArray:
        heads = matrix.load().reshape(inner, num_heads, head_dim)
        return np.pad(heads, ((0, 0), (0, 0), (0, 1))).reshape(inner, -1)

    def load_bias() -> FloatArray:
        heads = np.zeros((num_heads, head_dim), np.float32)
        if matrix.load_bias is not None:
            heads = matrix.load_bias().reshape(num_heads, head_dim)
        return np.pad(heads, ((0, 0), (0, 1)), constant_values=fill).reshape(-1)

    return Projection(
        name=matrix.name + suffix,
        shape=(inner, num_heads * (head_dim + 1)),
        load=load,
        load_bias=load_bias if bias else None,
    )


def project(canvas: Canvas, rows: str, projections: Sequence[Projection]) -> list[str]:
    """Multiply rows (…, in_features) with each matrix, in float32; biases are added."""
    products = []
    for matrix in projections:
        product = canvas.op("MatMul", rows, canvas.weight(matrix.name, matrix.shape, matrix.load))
        products.append(add_bias(canvas, product, matrix))
    return products


def add_bias(canvas: Canvas, rows: str, matrix: Projection) -> str:
    """Add the projection's bias, if there is one."""
    if matrix.load_bias is None:
        return rows
    name = f"{matrix.name}.bias"
    return canvas.op("Add", rows, canvas.weight(name, matrix.shape[1:], matrix.load_bias))
