"""Products, norms and activations of float32 arrays, as accurate as torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from embedge.types import FloatArray
from embedge_export.families.structure import HiddenActivation, Linear, Norm, Tensor
from embedge_export.graph.built.weights import Weights

_BLOCK = 1 << 16
"""Numbers that an activation works on at a time, so that what is between stays in the processor's cache."""

_ERFC_SLOPE = np.float32(0.3275911)
_ERFC = tuple(map(np.float32, (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)))
"""Abramowitz and Stegun 7.1.26: erfc(z) = exp(-z * z) * polynomial(1 / (1 + slope * z)), within 1.5e-7."""


class Kept:
    """Weights as float32, each read once.

    Args:
        weights: where they are.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._arrays: dict[Tensor, FloatArray] = {}
        self._turned: dict[Tensor, FloatArray] = {}
        self._made: dict[tuple[Tensor, ...], FloatArray] = {}

    def forget(self) -> None:
        """Let go of all that was read and made."""
        for kept in (self._arrays, self._turned, self._made):
            kept.clear()

    def once(self, name: tuple[Tensor, ...], make: Callable[[], FloatArray]) -> FloatArray:
        """What is made of some weights alone, made at the first time that it is asked for."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def array(self, tensor: Tensor) -> FloatArray:
        """A weight as it is stored."""
        if tensor not in self._arrays:
            self._arrays[tensor] = self._weights.read(tensor)
        return self._arrays[tensor]

    def turned(self, tensor: Tensor) -> FloatArray:
        """A matrix as (in_features, out_features): the few rows of a short text are multiplied twice as fast so."""
        if tensor not in self._turned:
            self._turned[tensor] = np.ascontiguousarray(self._weights.read(tensor).T)
        return self._turned[tensor]


def linear(rows: FloatArray, part: Linear, kept: Kept) -> FloatArray:
    """Rows @ weight.T + bias, float32 (num_rows, out_features)."""
    made: FloatArray = rows @ kept.turned(part.weight)
    if part.bias is not None:
        made += kept.array(part.bias)
    return made


def normalised(rows: FloatArray, norm: Norm | None, kept: Kept) -> FloatArray:
    """Rows after a norm over their last axis, where there is one."""
    if norm is None:
        return rows
    if norm.kind == "layer":
        rows = rows - rows.mean(axis=-1, keepdims=True)
    squares = np.einsum("...i,...i->...", rows, rows)[..., None]
    made: FloatArray = rows / np.sqrt(squares / np.float32(rows.shape[-1]) + np.float32(norm.epsilon))
    made *= kept.array(norm.weight)
    if norm.bias is not None:
        made += kept.array(norm.bias)
    return made


def softmax(scores: FloatArray) -> FloatArray:
    """Exponentials of the last axis that sum to 1; `scores` is overwritten."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def activated(rows: FloatArray, activation: HiddenActivation) -> FloatArray:
    """An activation of every number; `rows` is overwritten."""
    assert rows.flags.c_contiguous
    numbers = rows.reshape(-1)
    for start in range(0, numbers.size, _BLOCK):
        _ACTIVATIONS[activation](numbers[start : start + _BLOCK])
    return rows


def _gelu(x: FloatArray) -> None:
    """X * P(a normal number < x) = max(x, 0) - |x| * erfc(|x| / sqrt(2)) / 2."""
    size = np.abs(x)
    z = size * np.float32(math.sqrt(0.5))
    t = z * _ERFC_SLOPE
    t += np.float32(1)
    np.reciprocal(t, out=t)
    tail = t * _ERFC[0]
    for coefficient in _ERFC[1:]:
        tail += coefficient
        tail *= t
    z *= z
    np.negative(z, out=z)
    tail *= np.exp(z, out=z)
    tail *= size
    tail *= np.float32(0.5)
    np.maximum(x, np.float32(0), out=x)
    x -= tail


def _gelu_tanh(x: FloatArray) -> None:
    inner = x * x
    inner *= np.float32(0.044715)
    inner += np.float32(1)
    inner *= x
    inner *= np.float32(math.sqrt(2 / math.pi))
    np.tanh(inner, out=inner)
    inner += np.float32(1)
    inner *= np.float32(0.5)
    x *= inner


def _silu(x: FloatArray) -> None:
    with np.errstate(over="ignore"):  # an infinite divisor gives the 0 that is meant
        divisor = np.exp(-x)
    divisor += np.float32(1)
    x /= divisor


def _relu(x: FloatArray) -> None:
    np.maximum(x, np.float32(0), out=x)


def _tanh(x: FloatArray) -> None:
    np.tanh(x, out=x)


_ACTIVATIONS: Mapping[HiddenActivation, Callable[[FloatArray], None]] = MappingProxyType(
    {"gelu": _gelu, "gelu_tanh": _gelu_tanh, "relu": _relu, "silu": _silu, "tanh": _tanh}
)
