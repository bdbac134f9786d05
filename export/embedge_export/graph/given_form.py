"""What an ONNX file made by someone else is: its inputs, the output to read, the precision of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from embedge.errors import ExportError
from embedge.manifest import Dtype
from embedge.runtime import EXACT_INT8
from embedge_export.graph.outputs import HIDDEN, LOGITS, POOLED
from embedge_export.source.checkpoint import Checkpoint

if TYPE_CHECKING:
    import onnx

_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_HIDDEN_NAMES = (HIDDEN, "token_embeddings", "hidden_states")
_QUANTIZED = {
    "MatMulInteger",
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "QLinearMatMul",
    "QuantizeLinear",
    "DynamicQuantizeLinear",
}
_BLOCK_QUANTIZED = {"MatMulNBits", "GatherBlockQuantized"}
_WEIGHTS_AT = {
    "MatMulInteger": 1,
    "ConvInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "QAttention": 1,
    "QLinearMatMul": 3,
    "QLinearConv": 3,
    "QGemm": 3,
}
"""Which input of a product of 8 bits is its matrix."""
_FLOAT_WEIGHTS_AT = {"MatMul": 1, "Gemm": 1, "Conv": 1}
"""The same of products that onnxruntime makes ones of 8 bits, where what they take was rounded and widened again."""
_ROUNDING = {"QuantizeLinear", "DynamicQuantizeLinear"}
_SAME_VALUES = {"Transpose", "Reshape", "Identity", "DequantizeLinear"}
_LARGEST_EXACT = 64
"""255 * 64 * 2 fits into 16 bits; optimum and onnxruntime call it reduce_range."""


class Output(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The output of a graph that is read, and embedge's name for what it holds."""

    value: Any
    name: str


def check_wraps(checkpoint: Checkpoint) -> None:
    """Refuse kinds of models whose graph is never a file of someone else's.

    Raises:
        ExportError: the checkpoint is of one.
    """
    if not checkpoint.facts.wraps:
        raise ExportError(
            f"--from-onnx cannot wrap a {checkpoint.kind.replace('_', ' ')}; expected an encoder's graph. "
            "Export the checkpoint's own weights instead."
        )


def choose_output(
    model: onnx.ModelProto, checkpoint: Checkpoint, path: Path, output_name: str | None = None
) -> Output:
    """Find the output that holds what the checkpoint's answers are made from.

    Args:
        model: the graph.
        checkpoint: facts of the files beside it.
        path: for messages.
        output_name: of the output, where the caller names it.

    Raises:
        ExportError: there is none, or it has another size than the checkpoint states.
    """
    wanted = (output_name,) if output_name is not None else None
    by_row = [value for value in model.graph.output if len(shape(value)) == 2]
    by_token = [value for value in model.graph.output if len(shape(value)) == 3]
    if checkpoint.head is not None:
        tokens = checkpoint.facts.outputs == "token_logits"
        logits = _find(
            by_token if tokens else by_row, wanted or (LOGITS,), model, path, rank=3 if tokens else 2
        )
        _check_size(logits, len(checkpoint.head.labels), "labels", path)
        return Output(value=logits, name=LOGITS)
    if checkpoint.sparse:
        logits = _find(by_token, wanted or (LOGITS,), model, path, rank=3)
        _check_size(logits, checkpoint.vocab_size, "tokens in the vocabulary", path)
        return Output(value=logits, name=LOGITS)
    hidden_names = wanted or _HIDDEN_NAMES
    if checkpoint.kind == "embedding" and not any(value.name in hidden_names for value in by_token):
        pooled = _find(by_row, wanted or (POOLED,), model, path, rank=2, also=() if wanted else _HIDDEN_NAMES)
        _check_size(pooled, checkpoint.embedding_size, "components of an embedding", path)
        return Output(value=pooled, name=POOLED)
    hidden = _find(by_token, hidden_names, model, path, rank=3)
    _check_size(hidden, checkpoint.hidden_size, "components of a hidden state", path)
    return Output(value=hidden, name=HIDDEN)


def precision(model: onnx.ModelProto) -> tuple[str, Dtype]:
    """Name of the variant and precision of its weights.

    Told by operators that round, by matrices of 8 bits, which other operators may widen (QDQ, or Cast and Mul), and
    else by the largest share of the bytes.
    """
    from onnx import TensorProto

    kinds = {node.op_type for node in model.graph.node}
    stored = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    if kinds & _BLOCK_QUANTIZED or stored & {TensorProto.INT4, TensorProto.UINT4}:
        return "int4", "int4"
    if kinds & _QUANTIZED or stored & {TensorProto.INT8, TensorProto.UINT8}:
        return "int8", "int8"
    share: dict[int, int] = {}
    for tensor in model.graph.initializer:
        share[tensor.data_type] = share.get(tensor.data_type, 0) + tensor.ByteSize()
    if share and max(share, key=lambda kind: share[kind]) == TensorProto.FLOAT16:
        return "fp16", "float16"
    return "fp32", "float32"


def needs(model: onnx.ModelProto) -> tuple[str, ...]:
    """What the processor has to have, see Variant.needs: exact products, where int8 matrices go beyond 7 bits."""
    rounded = any(node.op_type in _ROUNDING for node in model.graph.node)
    kinds = _WEIGHTS_AT | (_FLOAT_WEIGHTS_AT if rounded else {})
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        place = kinds.get(node.op_type)
        if place is None or len(node.input) <= place:
            continue
        name = node.input[place]
        while name in made and made[name].op_type in _SAME_VALUES:
            name = made[name].input[0]
        if _overflows(stored.get(name), in_8_bits=node.op_type in _WEIGHTS_AT):
            return (EXACT_INT8,)
    return ()


def _overflows(matrix: onnx.TensorProto | None, *, in_8_bits: bool) -> bool:
    """Whether products with a matrix may not fit into 16 bits; one that is not stored may hold anything."""
    from onnx import TensorProto, numpy_helper

    if matrix is None:
        return in_8_bits
    if matrix.data_type != TensorProto.INT8:
        return False
    return int(np.abs(numpy_helper.to_array(matrix).astype(np.int16)).max(initial=0)) > _LARGEST_EXACT


def check_inputs(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a graph that texts cannot be given to.

    Raises:
        ExportError: an input that is not known, that is missing, or of another type or shape.
    """
    import onnx

    names = [value.name for value in model.graph.input]
    unknown = [name for name in names if name not in _INPUTS]
    if unknown:
        raise ExportError(
            f"{path.name} takes the input {unknown[0]!r}, which embedge does not know; expected some of "
            f"{', '.join(_INPUTS)}. Export the encoder alone, without past keys."
        )
    missing = [name for name in _INPUTS[:2] if name not in names]
    if missing:
        raise ExportError(
            f"{path.name} has no input {missing[0]}; expected input_ids and attention_mask, without which a text "
            "cannot be padded. Export the model again."
        )
    for value in model.graph.input:
        if value.type.tensor_type.elem_type != onnx.TensorProto.INT64:
            kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
            raise ExportError(
                f"{path.name}: input {value.name} is {kind}; expected INT64. Export the model again."
            )
        axes = shape(value)
        if len(axes) != 2 or any(isinstance(size, int) for size in axes):
            raise ExportError(
                f"{path.name}: input {value.name} has the shape {_show(axes)}; expected (batch, sequence), both "
                "free. Export the model again with dynamic axes."
            )


def shape(value: Any) -> list[int | str]:
    """Sizes and names of a value's axes."""
    return [axis.dim_value or axis.dim_param or "?" for axis in value.type.tensor_type.shape.dim]


def _show(axes: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, axes))})"


def _find(
    values: Sequence[Any],
    names: Sequence[str],
    model: onnx.ModelProto,
    path: Path,
    *,
    rank: int,
    also: Sequence[str] = (),
) -> Any:
    for name in names:
        for value in values:
            if value.name == name:
                return value
    given = ", ".join(f"{value.name} {_show(shape(value))}" for value in model.graph.output) or "none"
    raise ExportError(
        f"{path.name} gives the outputs {given}; expected {' or '.join([*also, *names])} with {rank} axes. "
        "Name one with --output-name, or export the model again."
    )


def _check_size(value: Any, expected: int | None, unit: str, path: Path) -> None:
    size = shape(value)[-1]
    if isinstance(size, int) and expected is not None and size != expected:
        raise ExportError(
            f"{path.name}: output {value.name} has {size} components; the checkpoint's files state {expected} {unit}. "
            "Pass the files that belong to this graph."
        )
