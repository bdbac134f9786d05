"""ONNX graphs written byte by byte, for test bundles: the onnx package is no dependency of the runtime.

Source: onnx.proto3; field numbers of ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto and
ValueInfoProto.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from embedge._contents.graph_tables import value_info
from embedge._contents.wire import field

IR_VERSION = 8
OPSET = 18

_DTYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}
_ATTRIBUTE_INT = 2


class GraphWriter:
    """Collects nodes, constants, inputs and outputs, and encodes them as a model.

    Args:
        name: the graph's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._initializers: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, dims: Sequence[str | int]) -> str:
        """Declare an int64 input and return its name."""
        self._inputs.append(value_info(name, _DTYPES[np.dtype(np.int64)], dims))
        return name

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Store an array, float32 or int64, and return its name."""
        values = np.ascontiguousarray(array, dtype=dtype)
        name = f"constant_{len(self._initializers)}"
        dims = b"".join(field(1, dim) for dim in values.shape)
        self._initializers.append(
            dims + field(2, _DTYPES[values.dtype]) + field(8, name) + field(9, values.tobytes())
        )
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: int) -> str:
        """Append an operator with one output and return that output's name."""
        result = output or f"node_{len(self._nodes)}"
        encoded = b"".join(field(1, name) for name in inputs) + field(2, result) + field(4, operator)
        for name, value in attributes.items():
            encoded += field(5, field(1, name) + field(3, value) + field(20, _ATTRIBUTE_INT))
        self._nodes.append(encoded)
        return result

    def output(self, name: str, dims: Sequence[str | int]) -> None:
        """Declare a float32 output; a node must give it."""
        self._outputs.append(value_info(name, _DTYPES[np.dtype(np.float32)], dims))

    def to_bytes(self) -> bytes:
        """The model as the content of an .onnx file."""
        parts = ((1, self._nodes), (5, self._initializers), (11, self._inputs), (12, self._outputs))
        graph = field(2, self._name) + b"".join(
            field(number, item) for number, items in parts for item in items
        )
        opset = field(1, "") + field(2, OPSET)
        return field(1, IR_VERSION) + field(2, "embedge") + field(7, graph) + field(8, opset)
