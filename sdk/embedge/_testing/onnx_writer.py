"""ONNX graphs written byte by byte, for test bundles: the onnx package is no dependency of the runtime.

Source: onnx.proto3; field numbers of ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto and
ValueInfoProto.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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
        self._inputs.append(_value_info(name, np.dtype(np.int64), dims))
        return name

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Store an array, float32 or int64, and return its name."""
        values = np.ascontiguousarray(array, dtype=dtype)
        name = f"constant_{len(self._initializers)}"
        dims = b"".join(_field(1, dim) for dim in values.shape)
        self._initializers.append(
            dims + _field(2, _DTYPES[values.dtype]) + _field(8, name) + _field(9, values.tobytes())
        )
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: int) -> str:
        """Append an operator with one output and return that output's name."""
        result = output or f"node_{len(self._nodes)}"
        encoded = b"".join(_field(1, name) for name in inputs) + _field(2, result) + _field(4, operator)
        for name, value in attributes.items():
            encoded += _field(5, _field(1, name) + _field(3, value) + _field(20, _ATTRIBUTE_INT))
        self._nodes.append(encoded)
        return result

    def output(self, name: str, dims: Sequence[str | int]) -> None:
        """Declare a float32 output; a node must give it."""
        self._outputs.append(_value_info(name, np.dtype(np.float32), dims))

    def to_bytes(self) -> bytes:
        """The model as the content of an .onnx file."""
        parts = ((1, self._nodes), (5, self._initializers), (11, self._inputs), (12, self._outputs))
        graph = _field(2, self._name) + b"".join(
            _field(number, item) for number, items in parts for item in items
        )
        opset = _field(1, "") + _field(2, OPSET)
        return _field(1, IR_VERSION) + _field(2, "embedge") + _field(7, graph) + _field(8, opset)


def _value_info(name: str, dtype: np.dtype[Any], dims: Sequence[str | int]) -> bytes:
    # Dimension: dim_value is field 1, dim_param field 2
    shape = b"".join(_field(1, _field(2 if isinstance(dim, str) else 1, dim)) for dim in dims)
    tensor_type = _field(1, _DTYPES[dtype]) + _field(2, shape)
    return _field(1, name) + _field(2, _field(1, tensor_type))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
