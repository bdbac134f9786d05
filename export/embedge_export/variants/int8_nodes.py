"""Nodes of an int8 graph: how rows are rounded to 8 bits, and what stands in place of a product or table look-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.types import FloatArray
from embedge_export.variants.editor import GraphEditor, Product

if TYPE_CHECKING:
    import onnx

Form: TypeAlias = Literal["fixed", "floored", "token", "smoothed token", "float32"]
"""How the rows of a product are quantised; int8.py says when which is taken."""

SMALLEST_SCALE = 1e-10
_SMALLEST_TABLE = 1000
_BELOW = 24
"""Steps for what is below 0: enough for GELU's 0.17 at the scale of a largest value of 1.7, where MiniLM's begin."""

_Factors: TypeAlias = list[tuple[Product, FloatArray]]


class Quantisation(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How the rows of one activation are quantised.

    Attributes:
        products: that multiply these rows.
        form: of the rows; "float32" leaves the products as they are.
        smoothing: what each channel of the rows is divided by, float32 (channels,).
        smoothed_before: the channels are divided where the rows come from.
        scale: of all rows, where the form is "fixed".
        floor: how far below 0 a value can go, where the form is "floored".
    """

    products: tuple[Product, ...]
    form: Form
    smoothing: FloatArray
    smoothed_before: bool = False
    scale: float | None = None
    floor: float | None = None


def quantise_products(
    editor: GraphEditor,
    quantisation: Quantisation,
    divisors: Mapping[str, FloatArray],
    *,
    unsigned: bool,
) -> None:
    """Write the nodes of one activation and its products.

    Args:
        editor: of the graph.
        quantisation: of the activation.
        divisors: what the columns of a matrix, and its bias, are divided by first, by the matrix's name.
        unsigned: store weights as uint8 around 128.
    """
    if quantisation.form == "float32":
        return
    factors: _Factors = []
    for product in quantisation.products:
        matrix: FloatArray = editor.array(product.matrix)
        if product.matrix not in divisors:
            factors.append((product, matrix))
            continue
        by = divisors[product.matrix]
        if product.bias is not None:
            bias = editor.weight(f"{product.bias}.divided", editor.array(product.bias) / by)
            product = msgspec.structs.replace(product, bias=bias)
        factors.append((product, matrix / by))
    if quantisation.form == "fixed":
        _quantise_by_one_scale(editor, quantisation, factors, unsigned=unsigned)
    else:
        _quantise_by_token(editor, quantisation, factors, unsigned=unsigned)


def quantise_tables(editor: GraphEditor) -> None:
    """Store embedding tables as int8 with one scale per row."""
    for table in editor.tables(_SMALLEST_TABLE):
        values = editor.array(table.matrix)
        scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), SMALLEST_SCALE) / 127
        stored = editor.weight(f"{table.matrix}.int8", np.rint(values / scales).astype(np.int8))
        row_scales = editor.weight(f"{table.matrix}.scales", scales.astype(np.float32))
        editor.replace(
            table,
            [
                editor.node("Gather", [stored, table.rows], f"{table.output}.int8", axis=0),
                editor.node("Cast", [f"{table.output}.int8"], f"{table.output}.float", to=1),
                editor.node("Gather", [row_scales, table.rows], f"{table.output}.scales", axis=0),
                editor.node("Mul", [f"{table.output}.float", f"{table.output}.scales"], table.output),
            ],
        )


def round_columns(matrix: FloatArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Whole numbers from -127 to 127, and the scale of each column."""
    scales = np.maximum(np.abs(matrix).max(axis=0), SMALLEST_SCALE).astype(np.float32) / np.float32(127)
    return np.rint(matrix / scales), scales


def zero_point(floor: float | None) -> int:
    """How many of the 256 steps are for what is below 0; half of them where no floor is known."""
    if floor is None:
        return 128
    return _BELOW if floor else 0


def least_scale(floor: float | None) -> float:
    """Smallest scale at which the floor still fits."""
    return max(floor / _BELOW, SMALLEST_SCALE) if floor else SMALLEST_SCALE


def _quantise_by_one_scale(
    editor: GraphEditor, quantisation: Quantisation, factors: _Factors, *, unsigned: bool
) -> None:
    first = quantisation.products[0]
    name = f"{first.rows}.int8"
    rows, nodes = (first.rows, []) if quantisation.smoothed_before else _smooth(editor, quantisation)
    zero = editor.weight("int8.zero_point", np.uint8(128))
    scale = editor.weight(f"{name}.scale", np.float32(quantisation.scale))
    editor.insert(first.node, [*nodes, editor.node("QuantizeLinear", [rows, scale, zero], name)])
    for product, matrix in factors:
        smoothed = matrix * quantisation.smoothing[:, None]
        stored = _store(editor, product, smoothed, scale, zero, unsigned=unsigned)
        editor.replace(product, [_multiply(editor, name, stored, product.output, product.bias)])


def _quantise_by_token(
    editor: GraphEditor, quantisation: Quantisation, factors: _Factors, *, unsigned: bool
) -> None:
    first, floor = quantisation.products[0], quantisation.floor
    name = f"{first.rows}.int8"
    rows, nodes = _smooth(editor, quantisation)
    nodes += _scales_of_tokens(editor, rows, name, floor)
    below = zero_point(floor)
    zero = editor.weight(f"int8.zero_point_{below}", np.uint8(below))
    # QuantizeLinear takes one scale per row of a matrix, which is faster than dividing first
    matrix_shape = np.array([-1, len(quantisation.smoothing)], dtype=np.int64)
    shape = editor.weight(f"{name}.rows_of", matrix_shape)
    flat = editor.weight("int8.flat", np.array([-1], dtype=np.int64))
    nodes += [
        editor.node("Reshape", [rows, shape], f"{name}.rows"),
        editor.node("Reshape", [f"{name}.scale", flat], f"{name}.scales"),
        editor.node("Shape", [f"{name}.scales"], f"{name}.count"),
        editor.node("Expand", [zero, f"{name}.count"], f"{name}.zeros"),
        editor.node(
            "QuantizeLinear",
            [f"{name}.rows", f"{name}.scales", f"{name}.zeros"],
            f"{name}.matrix",
            axis=0,
        ),
        editor.node("Shape", [rows], f"{name}.shape"),
        editor.node("Reshape", [f"{name}.matrix", f"{name}.shape"], name),
    ]
    editor.insert(first.node, nodes)
    one = editor.weight("int8.one", np.float32(1))
    for product, matrix in factors:
        result, scaled = f"{product.output}.int8", f"{product.output}.scaled"
        last = product.output if product.bias is None else scaled
        smoothed = matrix * quantisation.smoothing[:, None]
        stored = _store(editor, product, smoothed, one, zero, unsigned=unsigned)
        replaced = [
            _multiply(editor, name, stored, result),
            editor.node("Mul", [result, f"{name}.scale"], last),
        ]
        if product.bias is not None:
            replaced.append(editor.node("Add", [scaled, product.bias], product.output))
        editor.replace(product, replaced)


def _smooth(editor: GraphEditor, quantisation: Quantisation) -> tuple[str, list[onnx.NodeProto]]:
    rows = quantisation.products[0].rows
    if np.all(quantisation.smoothing == 1):
        return rows, []
    factors = editor.weight(f"{rows}.smoothing", (1 / quantisation.smoothing).astype(np.float32))
    name = f"{rows}.smooth"
    return name, [editor.node("Mul", [rows, factors], name)]


def _scales_of_tokens(editor: GraphEditor, rows: str, name: str, floor: float | None) -> list[onnx.NodeProto]:
    """Nodes that give NAME.scale, float32 (…, 1)."""
    axes = editor.weight("int8.last_axis", np.array([-1], dtype=np.int64))
    below = zero_point(floor)
    least = editor.weight(f"int8.least_scale_{below}", np.float32(least_scale(floor)))
    step = editor.weight(f"int8.step_{below}", np.float32(1 / (255 - below)))
    highest = editor.node("ReduceMax", [rows, axes], f"{name}.max", keepdims=1)
    if floor is not None:
        return [
            highest,
            editor.node("Mul", [f"{name}.max", step], f"{name}.wanted"),
            editor.node("Max", [f"{name}.wanted", least], f"{name}.scale"),
        ]
    return [
        highest,
        # the largest and the smallest value cost two passes; Abs and one pass cost more
        editor.node("ReduceMin", [rows, axes], f"{name}.min", keepdims=1),
        editor.node("Neg", [f"{name}.min"], f"{name}.neg"),
        editor.node("Max", [f"{name}.max", f"{name}.neg"], f"{name}.peak"),
        editor.node("Mul", [f"{name}.peak", step], f"{name}.wanted"),
        editor.node("Max", [f"{name}.wanted", least], f"{name}.scale"),
    ]


def _store(
    editor: GraphEditor, product: Product, matrix: FloatArray, scale: str, zero: str, *, unsigned: bool
) -> tuple[str, ...]:
    """Store a matrix in 8 bits; returns all inputs of its product but the rows and the bias."""
    values, columns = round_columns(matrix)
    around = ""
    if unsigned:
        stored = editor.weight(f"{product.matrix}.uint8", (values + 128).astype(np.uint8))
        around = editor.weight("int8.weights_zero_point", np.uint8(128))
    else:
        stored = editor.weight(f"{product.matrix}.int8", values.astype(np.int8))
    return stored, scale, editor.weight(f"{product.matrix}.scales", columns), zero, around


def _multiply(
    editor: GraphEditor, rows: str, stored: Sequence[str], output: str, bias: str | None = None
) -> onnx.NodeProto:
    """Quantised rows times a stored matrix, as float32."""
    inputs = [rows, *stored, bias or ""]
    while not inputs[-1]:
        inputs.pop()
    return editor.node("MatMulIntegerToFloat", inputs, output, domain="com.microsoft")
