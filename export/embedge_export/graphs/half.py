"""A built float32 graph in half precision: the way to CUDA for families whose attention has no fused operator.

What depends on places alone stays in float32: angles of rotations and sums of masks would lose their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embedge_export.graphs.canvas import Array, Load

if TYPE_CHECKING:
    import onnx

PLACES = "places/"
_LOWEST = -3e4
"""Scores of what must not be seen; half precision ends at 65,504, and a row of infinities gives no softmax."""
_LOWEST_NAME = "lowest"
_BOOLEAN = {"And", "Equal", "Greater", "Less", "Not", "Or"}
_BY_FIRST = {
    "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip


def to_half(
    model: onnx.ModelProto, loads: Mapping[str, Load], *, twin: bool = False
) -> tuple[onnx.ModelProto, dict[str, Load]]:
    """Compute a graph's blocks in float16; its inputs and outputs stay what they are.

    Args:
        model: as `build.build` gives it; its weights have no values.
        loads: what reads them.
        twin: write the same nodes in float32, to be held against the graph that they came from.

    Returns:
        A new graph, and what reads its weights.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind, dtype = (TensorProto.FLOAT, np.float32) if twin else (TensorProto.FLOAT16, np.float16)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    outputs = {value.name for value in graph.output}
    floats, kept = set(weights), set()
    # the half-precision name of every float tensor that blocks use
    halves: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if _gives_floats(node, floats):
            floats.update(node.output)
        if node.name.startswith(PLACES):
            kept.update(node.input)
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if name in floats and name not in halves:
                halves[name] = f"{name}.half"
                if name not in weights:
                    nodes += _narrow(name, halves[name], kind)
            node.input[index] = halves.get(name, name)
        for index, name in enumerate(node.output):
            if name in floats:
                halves[name] = node.output[index] = f"{name}.half" if name in outputs else name
        nodes.append(node)
    nodes += [
        helper.make_node("Cast", [halves[name]], [name], name=f"final/{name}", to=TensorProto.FLOAT)
        for name in outputs & halves.keys()
    ]
    tensors, read = [], {}
    for tensor in graph.initializer:
        name = tensor.name
        if name not in weights or name in kept:
            tensors.append(tensor)
            read[name] = loads[name]
        if name in weights and name in halves:
            half = TensorProto(name=halves[name], dims=tensor.dims, data_type=kind)
            tensors.append(half)
            read[half.name] = _Narrowed(loads[name], dtype)
    tensors.append(numpy_helper.from_array(np.array(_LOWEST, np.float32), _LOWEST_NAME))
    read[_LOWEST_NAME] = lambda: np.array(_LOWEST, np.float32)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    return made, read


def _gives_floats(node: onnx.NodeProto, floats: set[str]) -> bool:
    from onnx import TensorProto

    kind = node.op_type
    if kind == "Cast":
        return bool(next(item.i for item in node.attribute if item.name == "to") == TensorProto.FLOAT)
    if kind in _BOOLEAN or kind == "Shape":
        return False
    if kind in _BY_FIRST:
        return node.input[0] in floats
    return any(name in floats for name in node.input)


def floats_of(model: onnx.ModelProto) -> set[str]:
    """Names of a graph's tensors of real numbers, where they are float32 all alike."""
    from onnx import TensorProto

    floats = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    for node in model.graph.node:
        if _gives_floats(node, floats):
            floats.update(node.output)
    return floats - {""}


def narrowed_masks(model: onnx.ModelProto) -> set[str]:
    """Names of the masks that `to_half` brought to half precision: what a sum has to do with places alone."""
    made = {node.name for node in model.graph.node}
    return {
        name
        for node in model.graph.node
        if node.op_type == "Add" and not node.name.startswith(PLACES)
        for name in node.input
        if f"{PLACES}{name}" in made
    }


def _narrow(name: str, half: str, kind: int) -> list[onnx.NodeProto]:
    from onnx import helper

    raised = f"{name}.raised"
    return [
        helper.make_node("Max", [name, _LOWEST_NAME], [raised], name=f"{PLACES}{raised}"),
        helper.make_node("Cast", [raised], [half], name=f"{PLACES}{half}", to=kind),
    ]


class _Narrowed:
    """Reads a weight in another precision."""

    def __init__(self, load: Load, dtype: npt.DTypeLike) -> None:
        self._load, self._dtype = load, dtype

    def __call__(self) -> Array:
        return self._load().astype(self._dtype)
