"""Whether a graph stays in half precision's range: the largest value of every tensor that it would keep in it.

Measured on the CPU, where the same operators compute in float32 and nothing overflows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embedge._types import FloatArray
from embedge.errors import ExportError
from embedge_export.graphs.canvas import Array, Load
from embedge_export.graphs.half import PLACES, floats_of, narrowed_masks

if TYPE_CHECKING:
    import onnx

HIGHEST = 65504.0
"""Half precision ends here."""
_ALLOWED = 0.5
_WAY_OUT = (
    "Export without optimize_for='cuda': the fp32 variant runs on a GPU as well. There is no bfloat16 variant, as "
    "PackedAttention has no kernel for it in onnxruntime."
)


def watch(model: onnx.ModelProto, *, head: bool) -> list[str]:
    """Let a float32 graph give the largest magnitude of each tensor that its half-precision form keeps in float16.

    Args:
        model: of fused operators, or as `half.to_half` gives it; outputs are appended to its own.
        head: whether what follows the last hidden states is in half precision as well.

    Returns:
        Names of the tensors, in the order of the new outputs.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    floats, masked = floats_of(model), narrowed_masks(model)
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
        scope = node.name.split("/")[0]
        if node.name.startswith(PLACES) or node.op_type == "Cast" or (scope == "head" and not head):
            continue
        if node.op_type == "Attention":
            # queries, keys and values exist inside of the operator only
            product, total = f"{node.name}/qkv.product", f"{node.name}/qkv"
            added.append(helper.make_node("MatMul", list(node.input[:2]), [product], name=product))
            added.append(helper.make_node("Add", [product, node.input[2]], [total], name=total))
            largest(total)
        for name in node.output:
            # a mask's lowest value is put where it is seen; what is masked is below every other score
            if name in floats and name not in given and not masked.intersection(node.input):
                largest(name)
    graph.node.extend(added)
    return watched


def check_range(names: Sequence[str], largest: npt.NDArray[np.float64]) -> None:
    """Refuse what comes near the end of half precision.

    Args:
        names: of the tensors.
        largest: magnitude of each on real texts.

    Raises:
        ExportError: names the tensor that is largest.
    """
    if not names:
        return
    worst = int(np.argmax(np.nan_to_num(largest, nan=np.inf)))
    if not largest[worst] <= _ALLOWED * HIGHEST:
        raise ExportError(
            f"optimize_for='cuda' would overflow float16: {names[worst].rsplit(':', 1)[0]} reaches "
            f"{largest[worst]:,.0f} on built-in texts; expected at most {_ALLOWED * HIGHEST:,.0f}, half of what "
            f"float16 holds. Nothing was written. {_WAY_OUT}"
        )


def finite(loads: Mapping[str, Load]) -> dict[str, Load]:
    """What reads a graph's weights, refusing those that half precision does not hold."""
    return {name: _Finite(name, load) for name, load in loads.items()}


class _Finite:
    def __init__(self, name: str, load: Load) -> None:
        self._name, self._load = name, load

    def __call__(self) -> Array:
        with np.errstate(over="ignore"):
            array: FloatArray = self._load()
        if array.dtype == np.float16 and not np.isfinite(array).all():
            raise ExportError(
                f"optimize_for='cuda' would overflow float16: the weight {self._name} has values beyond "
                f"{HIGHEST:,.0f}. Nothing was written. {_WAY_OUT}"
            )
        return array
