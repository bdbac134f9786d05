"""Nodes of an int8 graph: how rows are rounded to 8 bits, and what stands in place of a product or table look-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.types import FloatArray
from embedge_export.variants.editor import GraphEditor, Product
from embedge_export.variants.rounding import SMALLEST_SCALE, Rounded

if TYPE_CHECKING:
    import onnx

Form: TypeAlias = Literal["fixed", "floored", "token", "smoothed token", "float32"]
"""How the rows of a product are quantised; int8.py says when which is taken."""

_SMALLEST_TABLE = 1000
_BLOCKS_OPSET = 21
"""Since when QuantizeLinear takes a scale per block of a row."""
_BELOW = 24
"""Steps for what is below 0: enough for GELU's 0.17 at the scale of a largest value of 1.7, where MiniLM's begin."""

_Factors: TypeAlias = list[tuple[Product, Rounded]]


class Quantisation(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How the rows of one activation are quantised.

    Attributes:
        products: that multiply these rows.
        form: of the rows; "float32" leaves the products as they are.
        smoothing: what each channel of the rows is divided by, float32 (channels,).
        middle: what is taken from each channel first, and comes back with the bias, float32 (channels,); None where
            nothing is.
        smoothed_before: both happen where the rows come from.
        scale: of all rows, where the form is "fixed".
        floor: how far below 0 a value can go, where the form is "floored".
        rounded: the matrices of the products, multiplied with the smoothing.
    """

    products: tuple[Product, ...]
    form: Form
    smoothing: FloatArray
    middle: FloatArray | None = None
    smoothed_before: bool = False
    scale: float | None = None
    floor: float | None = None
    rounded: tuple[Rounded, ...] = ()


def quantise_products(
    editor: GraphEditor,
    quantisation: Quantisation,
    later: Mapping[str, Quantisation],
    *,
    unsigned: bool,
) -> None:
    """Write the nodes of one activation and its products.

    Args:
        editor: of the graph.
        quantisation: of the activation.
        later: by a matrix's name, the activation that its product becomes and that is smoothed here already.
        unsigned: store weights as uint8 around 128.
    """
    if quantisation.form == "float32":
        return
    factors: _Factors = []
    for product, rounded in zip(quantisation.products, quantisation.rounded, strict=True):
        bias = None if product.bias is None else editor.array(product.bias)
        if quantisation.middle is not None:
            bias = quantisation.middle @ editor.matrix(product) + (0 if bias is None else bias)
        after = later.get(product.matrix)
        if after is not None:
            # a column that is divided has the same whole numbers at another scale
            scales = (rounded.scales / after.smoothing).astype(np.float32)
            rounded = msgspec.structs.replace(rounded, scales=scales)
            if after.middle is not None:
                bias = -after.middle if bias is None else bias - after.middle
            bias = None if bias is None else bias / after.smoothing
        if bias is not None and (after is not None or quantisation.middle is not None):
            name = editor.weight(f"{product.output}.bias", bias.astype(np.float32))
            product = msgspec.structs.replace(product, bias=name)
        factors.append((product, rounded))
    if quantisation.form == "fixed":
        _quantise_by_one_scale(editor, quantisation, factors, unsigned=unsigned)
    else:
        _quantise_by_token(editor, quantisation, factors, unsigned=unsigned)


def quantise_tables(editor: GraphEditor, quantised: Sequence[Quantisation] = ()) -> None:
    """Store embedding tables as int8 with one scale per row; one that a product shares is stored with that product."""
    shared = {
        product.matrix: (each, rounded)
        for each in quantised
        for product, rounded in zip(each.products, each.rounded, strict=False)
        if product.turn is not None
    }
    for table in editor.tables(_SMALLEST_TABLE):
        if table.matrix in shared:
            _look_up_shared(editor, table, *shared[table.matrix])
            continue
        values = editor.array(table.matrix)
        scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), SMALLEST_SCALE) / 127
        stored = editor.weight(f"{table.matrix}.int8", np.rint(values / scales).astype(np.int8))
        _look_up(editor, table, stored, scales, table.output)


def _look_up(
    editor: GraphEditor,
    table: Product,
    stored: str,
    scales: FloatArray,
    result: str,
    around: str | None = None,
    after: Sequence[onnx.NodeProto] = (),
) -> None:
    """Rows of a stored table as float32; `around` is what stands for 0 in it."""
    row_scales = editor.weight(f"{table.matrix}.row_scales", scales.astype(np.float32))
    values = f"{table.output}.float"
    nodes = [
        editor.node("Gather", [stored, table.rows], f"{table.output}.int8", axis=0),
        editor.node("Cast", [f"{table.output}.int8"], values, to=1),
    ]
    if around is not None:
        nodes.append(editor.node("Sub", [values, around], f"{table.output}.around"))
        values = f"{table.output}.around"
    nodes += [
        editor.node("Gather", [row_scales, table.rows], f"{table.output}.scales", axis=0),
        editor.node("Mul", [values, f"{table.output}.scales"], result),
        *after,
    ]
    editor.replace(table, nodes)


def _look_up_shared(
    editor: GraphEditor, table: Product, quantisation: Quantisation, rounded: Rounded
) -> None:
    """Look rows up in the matrix of a product: what that was multiplied with is divided by again."""
    name = f"{table.matrix}.uint8"
    unsigned = editor.has_weight(name)
    around = editor.weight("int8.table_zero", np.float32(128)) if unsigned else None
    smoothing = quantisation.smoothing
    smooth = bool(np.any(smoothing != 1))
    result = f"{table.output}.smoothed" if smooth else table.output
    after = []
    if smooth:
        factors = editor.weight(f"{table.matrix}.unsmoothing", (1 / smoothing).astype(np.float32))
        after.append(editor.node("Mul", [result, factors], table.output))
    stored = name if unsigned else f"{table.matrix}.int8"
    _look_up(editor, table, stored, rounded.scales[:, None], result, around, after)


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
    for product, rounded in factors:
        stored = _store(editor, product, rounded, scale, zero, unsigned=unsigned)
        editor.replace(product, [_multiply(editor, name, stored, product.output, product.bias)])


def _quantise_by_token(
    editor: GraphEditor, quantisation: Quantisation, factors: _Factors, *, unsigned: bool
) -> None:
    first, floor = quantisation.products[0], quantisation.floor
    name = f"{first.rows}.int8"
    rows, nodes = _smooth(editor, quantisation)
    below = zero_point(floor)
    zero = editor.weight(f"int8.zero_point_{below}", np.uint8(below))
    nodes += _scales_of_tokens(editor, rows, name, floor)
    nodes += _rounded_by_token(editor, rows, name, zero, len(quantisation.smoothing))
    editor.insert(first.node, nodes)
    one = editor.weight("int8.one", np.float32(1))
    for product, rounded in factors:
        result, scaled = f"{product.output}.int8", f"{product.output}.scaled"
        last = product.output if product.bias is None else scaled
        stored = _store(editor, product, rounded, one, zero, unsigned=unsigned)
        replaced = [
            _multiply(editor, name, stored, result),
            editor.node("Mul", [result, f"{name}.scale"], last),
        ]
        if product.bias is not None:
            replaced.append(editor.node("Add", [scaled, product.bias], product.output))
        editor.replace(product, replaced)


def _smooth(editor: GraphEditor, quantisation: Quantisation) -> tuple[str, list[onnx.NodeProto]]:
    rows, middle = quantisation.products[0].rows, quantisation.middle
    name = f"{rows}.smooth"
    factors = (1 / quantisation.smoothing).astype(np.float32)
    if middle is not None:
        # the normalisation once more takes no longer than the factors alone
        norm = editor.norm(rows)
        assert norm is not None
        return name, [editor.norm_like(norm, name, factors, -middle * factors)]
    if np.all(quantisation.smoothing == 1):
        return rows, []
    return name, [editor.node("Mul", [rows, editor.weight(f"{rows}.smoothing", factors)], name)]


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


def _rounded_by_token(
    editor: GraphEditor, rows: str, name: str, zero: str, channels: int
) -> list[onnx.NodeProto]:
    """Nodes that give NAME, uint8, of rows and NAME.scale; QuantizeLinear per row is faster than dividing first."""
    scale, scales, zeros, matrix = (f"{name}.{part}" for part in ("scale", "scales", "zeros", "matrix"))
    if editor.opset >= _BLOCKS_OPSET:
        # a block, here a row, wants a zero point of its own: what the largest number divides rounds to that
        largest = editor.weight("int8.largest", np.finfo(np.float32).max)
        return [
            editor.node("QuantizeLinear", [scale, largest, zero], zeros),
            editor.node("QuantizeLinear", [rows, scale, zeros], name, axis=-1, block_size=channels),
        ]
    flat = editor.weight("int8.flat", np.array([-1], dtype=np.int64))
    flat_rows = editor.weight(f"{name}.rows_of", np.array([-1, channels], dtype=np.int64))
    return [
        editor.node("Reshape", [rows, flat_rows], f"{name}.rows"),
        editor.node("Reshape", [scale, flat], scales),
        editor.node("Shape", [scales], f"{name}.count"),
        editor.node("Expand", [zero, f"{name}.count"], zeros),
        editor.node("QuantizeLinear", [f"{name}.rows", scales, zeros], matrix, axis=0),
        editor.node("Shape", [rows], f"{name}.shape"),
        editor.node("Reshape", [matrix, f"{name}.shape"], name),
    ]


def _store(
    editor: GraphEditor, product: Product, rounded: Rounded, scale: str, zero: str, *, unsigned: bool
) -> tuple[str, ...]:
    """Store a matrix in 8 bits; returns all inputs of its product but the rows and the bias."""
    values: npt.NDArray[Any] = rounded.values if product.turn is None else rounded.values.T
    around = ""
    if unsigned:
        stored = editor.weight(f"{product.matrix}.uint8", (values.astype(np.int16) + 128).astype(np.uint8))
        around = editor.weight("int8.weights_zero_point", np.uint8(128))
    else:
        stored = editor.weight(f"{product.matrix}.int8", np.ascontiguousarray(values))
    if product.turn is not None:
        turned = f"{stored}.turned"
        # while the model is loaded
        editor.insert(product.node, [editor.node("Transpose", [stored], turned, perm=[1, 0])])
        stored = turned
    return stored, scale, editor.weight(f"{product.matrix}.scales", rounded.scales), zero, around


def _multiply(
    editor: GraphEditor, rows: str, stored: Sequence[str], output: str, bias: str | None = None
) -> onnx.NodeProto:
    """Quantised rows times a stored matrix, as float32."""
    inputs = [rows, *stored, bias or ""]
    while not inputs[-1]:
        inputs.pop()
    return editor.node("MatMulIntegerToFloat", inputs, output, domain="com.microsoft")
