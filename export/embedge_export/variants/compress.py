"""Smaller precisions of any float32 graph: float16 weights and int4 blocks; int8.py has int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embedge.types import FloatArray
from embedge_export.variants.editor import GraphEditor, nothing_to_store
from embedge_export.variants.int8_nodes import quantise_tables

if TYPE_CHECKING:
    import onnx

_INT4_BLOCK = 32


def float16(editor: GraphEditor) -> onnx.ModelProto:
    """Store the weights in half precision and compute in float32: half the size on any processor.

    Every weight is widened when it is used; onnxruntime does that once while it loads. Values beyond float16's range
    would become infinite, so such a weight stays as it is.
    """
    largest = float(np.finfo(np.float16).max)
    for name in editor.float_weights():
        values = editor.array(name)
        if np.abs(values).max() < largest:
            editor.widen(name, editor.weight(f"{name}.fp16", values.astype(np.float16)))
    return editor.finish()


def int4(editor: GraphEditor) -> onnx.ModelProto:
    """Quantise matrices to four bits in blocks of 32 rows of a column; activations stay float32.

    Meant for large decoders; small encoders lose too much, and the gate refuses them. Embedding tables go to int8.

    Raises:
        ExportError: the graph has nothing to quantise.
    """
    products = editor.products()
    if not products:
        raise nothing_to_store("int4")
    editor.require_contrib_ops()
    for product in products:
        matrix = editor.matrix(product)
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
        editor.replace(product, nodes)
    quantise_tables(editor)
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
