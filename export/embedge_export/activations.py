"""Activations that a module of a checkpoint may end in: classes of torch.nn without parameters, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np


class Nodes(Protocol):
    """What appends nodes to a graph; a value is the name of a node's output."""

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node."""

    def constant(self, value: Any, dtype: Any) -> str:
        """Append a constant."""


def _gelu(nodes: Nodes, x: str) -> str:
    half = nodes.op("Mul", x, nodes.constant(0.5, np.float32))
    erf = nodes.op("Erf", nodes.op("Mul", x, nodes.constant(2**-0.5, np.float32)))
    return nodes.op("Mul", half, nodes.op("Add", erf, nodes.constant(1.0, np.float32)))


def _clip(nodes: Nodes, x: str, low: float, high: float) -> str:
    return nodes.op("Clip", x, nodes.constant(low, np.float32), nodes.constant(high, np.float32))


MODULE_ACTIVATIONS: Mapping[str, Callable[[Nodes, str], str]] = MappingProxyType(
    {
        "ELU": lambda nodes, x: nodes.op("Elu", x),
        "GELU": _gelu,
        "Hardsigmoid": lambda nodes, x: nodes.op("HardSigmoid", x, alpha=1 / 6, beta=0.5),
        "Hardswish": lambda nodes, x: nodes.op("Mul", x, nodes.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)),
        "Hardtanh": lambda nodes, x: _clip(nodes, x, -1, 1),
        "Identity": lambda _, x: x,
        "LeakyReLU": lambda nodes, x: nodes.op("LeakyRelu", x, alpha=0.01),
        "LogSigmoid": lambda nodes, x: nodes.op("Neg", nodes.op("Softplus", nodes.op("Neg", x))),
        "Mish": lambda nodes, x: nodes.op("Mul", x, nodes.op("Tanh", nodes.op("Softplus", x))),
        "ReLU": lambda nodes, x: nodes.op("Relu", x),
        "ReLU6": lambda nodes, x: _clip(nodes, x, 0, 6),
        "SELU": lambda nodes, x: nodes.op("Selu", x),
        "SiLU": lambda nodes, x: nodes.op("Mul", x, nodes.op("Sigmoid", x)),
        "Sigmoid": lambda nodes, x: nodes.op("Sigmoid", x),
        "Softplus": lambda nodes, x: nodes.op("Softplus", x),
        "Softsign": lambda nodes, x: nodes.op("Softsign", x),
        "Tanh": lambda nodes, x: nodes.op("Tanh", x),
    }
)
"""By class name. A checkpoint that names another is refused; the SDK has each in numpy."""
