"""Smaller precisions of any float32 graph: int8 per token, float16, int4 blocks. The general route.

int8 means: every product of activations with a stored matrix quantises each token's row by its own largest value and
each column of the matrix by its own, so that a text's vector does not depend on what else is in the batch (dynamic
quantisation per tensor, which onnxruntime and optimum offer, makes it depend). SmoothQuant moves the large channels
of activations into the weights first.

Source: SmoothQuant (Xiao et al., 2022), alpha 0.5; measured figures in benchmarks/results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embedge._types import FloatArray, IntArray
from embedge.errors import ExportError
from embedge_export.rewrite import GraphEditor, Product

if TYPE_CHECKING:
    import onnx

INT8_DISABLED_OPTIMIZERS = ("SkipLayerNormFusion",)
"""onnxruntime's fusion of addition and normalisation takes longer than what it replaces on the CPU."""

_SMOOTHING = 0.5
_SMALLEST_SCALE = 1e-10
_SMALLEST_PRODUCT = 64 * 64
_SMALLEST_TABLE = 1000
_INT4_BLOCK = 32


def calibrate(model: onnx.ModelProto, feeds: Sequence[Mapping[str, IntArray]]) -> dict[str, FloatArray]:
    """Largest absolute value of each channel of the activations that int8 quantises.

    Args:
        model: float32 graph with its weights inside.
        feeds: inputs of some real texts, each int64 (batch, seq_len).

    Returns:
        By tensor name, float32 (in_features,).
    """
    from embedge._onnxruntime import import_onnxruntime

    editor = GraphEditor.copy(model)
    names = sorted({product.rows for product in editor.products(_SMALLEST_PRODUCT)})
    editor.expose(names)
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(editor.serialize(), options, providers=["CPUExecutionProvider"])
    largest: dict[str, FloatArray] = {}
    for feed in feeds:
        for name, rows in zip(names, session.run(names, dict(feed)), strict=True):
            real = rows.reshape(-1, rows.shape[-1])
            if rows.shape[:2] == feed["attention_mask"].shape:
                real = rows[feed["attention_mask"] > 0]
            peak = np.abs(real).max(axis=0)
            largest[name] = peak if name not in largest else np.maximum(largest[name], peak)
    return largest


def int8(model: onnx.ModelProto, channel_maxima: Mapping[str, FloatArray]) -> onnx.ModelProto:
    """Quantise products per token and column, and embedding tables per row.

    Args:
        model: float32 graph with its weights inside; left as it is.
        channel_maxima: what `calibrate` returned; a tensor that is missing is not smoothed.

    Raises:
        ExportError: the graph has nothing to quantise.
    """
    editor = GraphEditor.copy(model)
    products = editor.products(_SMALLEST_PRODUCT)
    if not products:
        raise ExportError(
            "the graph has no product with a stored matrix, so there is no int8 variant of it. Omit int8."
        )
    editor.require_contrib_ops()
    by_rows: dict[str, list[Product]] = {}
    for product in products:
        by_rows.setdefault(product.rows, []).append(product)
    for rows, sharing in by_rows.items():
        matrices = [editor.array(product.matrix) for product in sharing]
        smoothing = _smoothing(channel_maxima.get(rows), matrices)
        quantised, scale = _quantise_rows(editor, rows, smoothing, before=sharing[0])
        for product, matrix in zip(sharing, matrices, strict=True):
            _replace_product(editor, product, matrix * smoothing[:, None], quantised, scale)
    _quantise_tables(editor)
    return editor.finish()


def float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights in half precision and compute in float32: half the size on any processor.

    Every weight is widened when it is used; onnxruntime does that once while it loads. Values beyond float16's range
    would become infinite, so such a weight stays as it is.
    """
    editor = GraphEditor.copy(model)
    largest = float(np.finfo(np.float16).max)
    for name in editor.float_weights(_SMALLEST_PRODUCT):
        values = editor.array(name)
        if np.abs(values).max() < largest:
            editor.widen(name, editor.weight(f"{name}.fp16", values.astype(np.float16)))
    return editor.finish()


def int4(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantise matrices to four bits in blocks of 32 rows of a column; activations stay float32.

    Meant for large decoders; small encoders lose too much, and the gate refuses them. Embedding tables go to int8.

    Raises:
        ExportError: the graph has nothing to quantise.
    """
    editor = GraphEditor.copy(model)
    products = editor.products(_SMALLEST_PRODUCT)
    if not products:
        raise ExportError(
            "the graph has no product with a stored matrix, so there is no int4 variant of it. Omit int4."
        )
    editor.require_contrib_ops()
    for product in products:
        matrix = editor.array(product.matrix)
        packed, scales = _pack_int4(matrix)
        stored = [
            editor.weight(f"{product.matrix}.int4", packed),
            editor.weight(f"{product.matrix}.scales", scales),
        ]
        result = product.output if product.bias is None else f"{product.output}.int4"
        nodes = [
            editor.node(
                "MatMulNBits",
                [product.rows, *stored],
                result,
                domain="com.microsoft",
                K=matrix.shape[0],
                N=matrix.shape[1],
                bits=4,
                block_size=_INT4_BLOCK,
            )
        ]
        if product.bias is not None:
            nodes.append(editor.node("Add", [result, product.bias], product.output))
        editor.replace(product.node, nodes)
    _quantise_tables(editor)
    return editor.finish()


def _pack_int4(matrix: FloatArray) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """Columns in blocks, two values a byte: uint8 (out, blocks, 16) and float32 scales (out * blocks,)."""
    inner, outer = matrix.shape
    blocks = -(-inner // _INT4_BLOCK)
    padded = np.zeros((outer, blocks * _INT4_BLOCK), dtype=np.float32)
    padded[:, :inner] = matrix.T
    grouped = padded.reshape(outer, blocks, _INT4_BLOCK)
    # the largest value becomes -8, the one end of the range that has no counterpart
    peaks = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=2)[..., None], axis=2)
    scales = np.where(peaks == 0, 1, peaks / -8).astype(np.float32)
    values = np.clip(np.rint(grouped / scales) + 8, 0, 15).astype(np.uint8)
    packed = values[..., 0::2] | (values[..., 1::2] << 4)
    return packed, scales.reshape(-1)


def _quantise_tables(editor: GraphEditor) -> None:
    """Store embedding tables as int8 with one scale per row."""
    for table in editor.tables(_SMALLEST_TABLE):
        values = editor.array(table.matrix)
        scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), _SMALLEST_SCALE) / 127
        stored = editor.weight(f"{table.matrix}.int8", np.rint(values / scales).astype(np.int8))
        row_scales = editor.weight(f"{table.matrix}.scales", scales.astype(np.float32))
        editor.replace(
            table.node,
            [
                editor.node("Gather", [stored, table.rows], f"{table.output}.int8", axis=0),
                editor.node("Cast", [f"{table.output}.int8"], f"{table.output}.float", to=1),
                editor.node("Gather", [row_scales, table.rows], f"{table.output}.scales", axis=0),
                editor.node("Mul", [f"{table.output}.float", f"{table.output}.scales"], table.output),
            ],
        )


def _smoothing(maxima: FloatArray | None, matrices: Sequence[FloatArray]) -> FloatArray:
    """What activations are divided by and weights multiplied with, one value per channel."""
    channels = matrices[0].shape[0]
    if maxima is None or maxima.shape != (channels,):
        return np.ones(channels, dtype=np.float32)
    weights = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
    factors = np.maximum(maxima, 1e-5) ** _SMOOTHING / np.maximum(weights, 1e-5) ** (1 - _SMOOTHING)
    return np.clip(factors, 1e-4, 1e4).astype(np.float32)


def _quantise_rows(editor: GraphEditor, rows: str, smoothing: FloatArray, before: Product) -> tuple[str, str]:
    """Nodes that bring rows to uint8 around 128; returns the names of the result and of each row's scale."""
    name = f"{rows}.int8"
    nodes = []
    if not np.all(smoothing == 1):
        factors = editor.weight(f"{name}.smoothing", (1 / smoothing).astype(np.float32))
        nodes.append(editor.node("Mul", [rows, factors], f"{name}.smooth"))
        rows = f"{name}.smooth"
    axes = editor.weight("int8.last_axis", np.array([-1], dtype=np.int64))
    step = editor.weight("int8.step", np.float32(1 / 127))
    smallest = editor.weight("int8.smallest", np.float32(_SMALLEST_SCALE))
    one = editor.weight("int8.one", np.float32(1))
    zero_point = editor.weight("int8.zero_point", np.uint8(128))
    # the largest and the smallest value cost two passes; Abs and one pass cost more
    nodes += [
        editor.node("ReduceMax", [rows, axes], f"{name}.max", keepdims=1),
        editor.node("ReduceMin", [rows, axes], f"{name}.min", keepdims=1),
        editor.node("Neg", [f"{name}.min"], f"{name}.neg"),
        editor.node("Max", [f"{name}.max", f"{name}.neg", smallest], f"{name}.peak"),
        editor.node("Mul", [f"{name}.peak", step], f"{name}.scale"),
        editor.node("Div", [rows, f"{name}.scale"], f"{name}.divided"),
        editor.node("QuantizeLinear", [f"{name}.divided", one, zero_point], name),
    ]
    editor.insert(before.node, nodes)
    return name, f"{name}.scale"


def _replace_product(
    editor: GraphEditor, product: Product, matrix: FloatArray, quantised: str, scale: str
) -> None:
    scales = np.maximum(np.abs(matrix).max(axis=0), _SMALLEST_SCALE) / 127
    stored = editor.weight(f"{product.matrix}.int8", np.rint(matrix / scales).astype(np.int8))
    column_scales = editor.weight(f"{product.matrix}.scales", scales.astype(np.float32))
    one, zero_point = "int8.one", "int8.zero_point"
    result = f"{product.output}.int8"
    nodes = [
        editor.node(
            "MatMulIntegerToFloat",
            [quantised, stored, one, column_scales, zero_point],
            result,
            domain="com.microsoft",
        )
    ]
    if product.bias is None:
        nodes.append(editor.node("Mul", [result, scale], product.output))
    else:
        nodes.append(editor.node("Mul", [result, scale], f"{result}.scaled"))
        nodes.append(editor.node("Add", [f"{result}.scaled", product.bias], product.output))
    editor.replace(product.node, nodes)
