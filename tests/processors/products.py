"""What is expected of an 8-bit graph elsewhere: its products to the last step, its answers as far as one rounding goes.

A graph that rounds rows to 8 bits is not continuous: an activation that lies on the edge between two steps goes to the
other one when float32 sums before it differ in their last bit, and later layers carry that on. So answers of another
processor are no measure of its kernels. Each product and each rounding is, asked alone about the same rows.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

from embedge.runtime import import_onnxruntime

_KINDS = ("QuantizeLinear", "MatMulIntegerToFloat")
_LAST_BITS = 2.0**-22
"""Of float32: where a step is less than that, its answers say nothing of steps."""
_TRIES = 16
"""Of last bits; the largest difference hardly grows from there on."""

Feeds = dict[str, np.ndarray]


class EightBits(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The nodes of a graph that compute in 8 bits, apart from each other.

    Attributes:
        graph: all of them, each with inputs of its own.
        feeds: rows that the graph has when it is asked a text.
        expected: what numpy computes of them, by the name of the output, in float64.
        steps: what one step of the whole number before it comes to, by the same.
    """

    graph: bytes
    feeds: Feeds
    expected: Feeds
    steps: Feeds

    def steps_off(self, answers: Mapping[str, np.ndarray]) -> float:
        """Largest difference of any answer from numpy's, in steps; below 1 is the rounding of float32."""
        off = (
            np.abs((answers[name].astype(np.float64) - exact) / self.steps[name])
            for name, exact in self.expected.items()
        )
        return max((float(each.max(initial=0.0)) for each in off), default=0.0)


def feeds_of(graph: onnx.ModelProto, token_ids: Sequence[int]) -> Feeds:
    """A text as the graph takes it."""
    ids = np.array([token_ids], dtype=np.int64)
    known = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.arange(ids.shape[1], dtype=np.int64)[None],
    }
    return {value.name: known[value.name] for value in graph.graph.input}


def eight_bits(path: Path, token_ids: Sequence[int]) -> EightBits:
    """Take a graph's nodes apart, and compute in numpy what each makes of the rows that it has for a text."""
    graph = onnx.load(str(path))
    nodes = [node for node in graph.graph.node if node.op_type in _KINDS]
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    stored = set(values)
    values |= _values(graph, {name for node in nodes for name in node.input if name}, stored, token_ids)
    feeds = {name: values[name] for node in nodes for name in node.input if name and name not in stored}
    expected, steps = {}, {}
    for node in nodes:
        given = [values[name] if name else None for name in node.input]
        exact = _rounded if node.op_type == "QuantizeLinear" else _product
        expected[node.output[0]], steps[node.output[0]] = exact(*given)
    # what one node gives another is asked of both apart
    taken = copy.deepcopy(nodes)
    for node in taken:
        node.output[0] = f"{node.output[0]}:out"
    used = {name for node in nodes for name in node.input}
    alone = helper.make_graph(
        taken,
        "eight_bits",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), None)
            for name, each in feeds.items()
        ],
        [helper.make_empty_tensor_value_info(node.output[0]) for node in taken],
        [tensor for tensor in graph.graph.initializer if tensor.name in used],
    )
    model = helper.make_model(alone, opset_imports=graph.opset_import, ir_version=graph.ir_version)
    return EightBits(
        graph=model.SerializeToString(),
        feeds=feeds,
        expected={f"{name}:out": each for name, each in expected.items()},
        steps={f"{name}:out": each for name, each in steps.items()},
    )


def one_rounding(path: Path, asked: Sequence[tuple[Sequence[int], str]]) -> float:
    """Largest difference of any answer on this machine where stored float32 numbers change in their last bit.

    Args:
        path: of the graph.
        asked: token ids, and the output that is read.
    """
    graph = onnx.load(str(path))
    first = _answers(graph, asked)
    largest = 0.0
    for seed in range(_TRIES):
        random, changed = np.random.default_rng(seed), copy.deepcopy(graph)
        for tensor in changed.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims:
                numbers = numpy_helper.to_array(tensor)
                up = random.random(numbers.shape) < 0.5
                moved = np.where(up, np.nextafter(numbers, np.float32(np.inf)), numbers)
                tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        pairs = zip(first, _answers(changed, asked), strict=True)
        largest = max(largest, *(float(np.abs(one - other).max()) for one, other in pairs))
    return largest


def _answers(graph: onnx.ModelProto, asked: Sequence[tuple[Sequence[int], str]]) -> list[np.ndarray]:
    session = import_onnxruntime().InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return [session.run([output], feeds_of(graph, token_ids))[0] for token_ids, output in asked]


def _values(
    graph: onnx.ModelProto, names: set[str], stored: set[str], token_ids: Sequence[int]
) -> dict[str, np.ndarray]:
    wanted = sorted(names - stored)
    shown = copy.deepcopy(graph)
    known = {value.name for value in shown.graph.output}
    shown.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in wanted if name not in known
    )
    session = import_onnxruntime().InferenceSession(
        shown.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return dict(zip(wanted, session.run(wanted, feeds_of(graph, token_ids)), strict=True))


def _rounded(rows: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, Any]:
    """QuantizeLinear with one scale, or one per row; in float32, as an edge must be where the graph has it."""
    scale, zero = (each[:, None] if each.ndim == 1 else each for each in (scale, zero))
    return np.clip(np.rint(rows / scale) + zero.astype(np.float64), 0, 255), np.float64(1)


def _product(
    rows: np.ndarray,
    matrix: np.ndarray,
    scale: np.ndarray,
    scales: np.ndarray,
    zero: np.ndarray | None = None,
    around: np.ndarray | None = None,
    bias: np.ndarray | None = None,
) -> tuple[np.ndarray, Any]:
    """MatMulIntegerToFloat."""
    whole = (rows.astype(np.int64) - (0 if zero is None else int(zero))) @ (
        matrix.astype(np.int64) - (0 if around is None else around.astype(np.int64))
    )
    step = scale.astype(np.float64) * scales.astype(np.float64)
    exact = whole * step + (0 if bias is None else bias.astype(np.float64))
    return exact, np.maximum(step, np.abs(exact) * _LAST_BITS)
