"""Whether a graph stays in half precision's range: its weights, and the largest value of every tensor that it computes.

Measured on the CPU, where the same operators compute in float32 and nothing overflows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embedge_export.families.structure import Array, Load
from embedge_export.graph.built.positions import POSITIONS_SCOPE

if TYPE_CHECKING:
    import onnx

HIGHEST = 65504.0
"""Half precision ends here."""
_ALLOWED = 0.5
_NOT_IN_HALF = (POSITIONS_SCOPE, "head")
_CHOOSING = {"Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Transpose", "Unsqueeze"}


def watch(model: onnx.ModelProto) -> list[str]:
    """Let a float32 graph give the largest magnitude of each tensor that its half-precision form has in float16.

    Args:
        model: as graph/built/cuda.py gives it; outputs are appended to its own.

    Returns:
        Names of the tensors, in the order of the new outputs.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    floats = _floats(model)
    given = {value.name for value in graph.output}
    watched: list[str] = []
    added: list[onnx.NodeProto] = []

    def largest(name: str) -> None:
        stem = f"watched/{len(watched)}"
        added.append(helper.make_node("Abs", [name], [f"{stem}.abs"], name=f"{stem}.abs"))
        added.append(helper.make_node("ReduceMax", [f"{stem}.abs"], [stem], name=stem, keepdims=0))
        graph.output.append(helper.make_tensor_value_info(stem, TensorProto.FLOAT, []))
        watched.append(name)

    for node in graph.node:
        if node.name.split("/")[0] in _NOT_IN_HALF or node.op_type == "Cast":
            continue
        if node.op_type == "Attention" and node.domain:
            # queries, keys and values exist inside of the operator only
            product, total = f"{node.name}/qkv.product", f"{node.name}/qkv"
            added.append(helper.make_node("MatMul", list(node.input[:2]), [product], name=product))
            added.append(helper.make_node("Add", [product, node.input[2]], [total], name=total))
            largest(total)
        for name in node.output:
            if name in floats and name not in given:
                largest(name)
    graph.node.extend(added)
    return watched


def _floats(model: onnx.ModelProto) -> set[str]:
    """Names of a graph's tensors of real numbers, where they are float32 all alike."""
    from onnx import TensorProto

    floats = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    for node in model.graph.node:
        if node.op_type == "Cast":
            real = any(item.name == "to" and item.i == TensorProto.FLOAT for item in node.attribute)
        elif node.op_type in _CHOOSING:
            real = node.input[0] in floats
        else:
            real = any(name in floats for name in node.input)
        if real:
            floats.update(node.output)
    return floats - {""}


def overflow(names: Sequence[str], largest: npt.NDArray[np.float64]) -> str | None:
    """What comes near the end of half precision, in words; None where nothing does.

    Args:
        names: of the tensors.
        largest: magnitude of each on real texts.
    """
    if not names:
        return None
    worst = int(np.argmax(np.nan_to_num(largest, nan=np.inf)))
    if largest[worst] <= _ALLOWED * HIGHEST:
        return None
    return (
        f"{names[worst].rsplit(':', 1)[0]} reaches {largest[worst]:,.0f} on built-in texts, more than half of what "
        "float16 holds"
    )


class WeightWatch:
    """Notes the largest magnitude of each weight while a graph is written.

    Args:
        loads: what reads the weights.

    Attributes:
        loads: the same, noting.
    """

    def __init__(self, loads: Mapping[str, Load]) -> None:
        self._largest: dict[str, float] = {}
        self.loads: dict[str, Load] = {name: self._noting(name, load) for name, load in loads.items()}

    def overflow(self) -> str | None:
        """What float16 does not hold, in words; None where it holds all."""
        for name, largest in self._largest.items():
            if not largest <= HIGHEST:
                return f"the weight {name} reaches {largest:,.0f}, and float16 ends at {HIGHEST:,.0f}"
        return None

    def _noting(self, name: str, load: Load) -> Load:
        def noted() -> Array:
            array = load()
            if array.dtype == np.float32 and array.size:
                self._largest[name] = float(np.abs(array).max())
            return array

        return noted
