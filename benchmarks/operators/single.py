"""One operator alone in a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SEED = 0
MICROSOFT = "com.microsoft"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One thing to time.

    Attributes:
        group, name, shape: for tables.
        build: (names of nodes' inputs and outputs stand in them) -> serialised model and its feeds.
        elements: that it writes, for ns per element; 0 for products.
        flop: floating-point operations, for products.
    """

    group: str
    name: str
    shape: str
    build: Callable[[], tuple[bytes, dict[str, np.ndarray]]]
    elements: int = 0
    flop: int = 0


def graph(nodes, feeds, weights, outputs=("y",)) -> tuple[bytes, dict[str, np.ndarray]]:
    """A model of the nodes; `feeds` are its inputs, `weights` its initialisers, which onnxruntime may repack."""
    from onnx import TensorProto, helper, numpy_helper

    made = helper.make_graph(
        nodes,
        "operators",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    for output in made.output:
        output.ClearField("type")
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=imports, ir_version=10).SerializeToString(), feeds


def node(kind, inputs, outputs, domain="", **attributes):
    from onnx import helper

    return helper.make_node(kind, inputs.split(), outputs.split(), domain=domain, **attributes)


def normal(*shape) -> np.ndarray:
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
