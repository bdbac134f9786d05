"""Pooled rows to answers: Dense, LayerNorm, cut, normalise, softmax, sigmoid; the only numpy copy of each formula.

Source: sentence-transformers `Dense` and `Normalize`, torch.nn activations, vLLM `activations.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from embedge.errors import ShapeError
from embedge.types import Activation, FloatArray

NORM_FLOOR = np.float32(1e-12)
"""Smallest norm divided by, as in torch.nn.functional.normalize."""
LAYER_NORM_EPS = 1e-5
"""Added to the variance, as in torch.nn.LayerNorm."""


def dense(
    pooled: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None = None,
    activation: str = "Identity",
    *,
    use_residual: bool = False,
    residual: FloatArray | None = None,
) -> FloatArray:
    """Apply a Dense module.

    Args:
        pooled: float32 (…, in_features).
        weight: float32 (out_features, in_features).
        bias: float32 (out_features,), or None.
        activation: a key of ACTIVATIONS.
        use_residual: add what it is given to what it makes.
        residual: float32 (out_features, in_features) that comes before that; None where the sizes are equal.

    Returns:
        float32 (…, out_features).

    Raises:
        ShapeError: in_features differ.
    """
    if pooled.shape[-1] != weight.shape[1]:
        raise ShapeError(f"Dense expects {weight.shape[1]} features, the pooled rows have {pooled.shape[-1]}")
    linear = pooled @ weight.T
    if bias is not None:
        linear = linear + bias
    made = ACTIVATIONS[activation](linear).astype(np.float32, copy=False)
    if not use_residual:
        return made
    return made + (pooled if residual is None else pooled @ residual.T)


def layer_norm(rows: FloatArray, weight: FloatArray, bias: FloatArray | None = None) -> FloatArray:
    """Give each row mean 0 and variance 1, then scale and shift each component.

    Args:
        rows: float32 (…, size).
        weight: float32 (size,).
        bias: float32 (size,), or None.

    Returns:
        float32 (…, size).

    Raises:
        ShapeError: sizes differ.
    """
    if rows.shape[-1:] != weight.shape:
        raise ShapeError(f"LayerNorm expects {weight.shape[0]} components, the rows have {rows.shape[-1]}")
    centred = rows - rows.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(variance + np.float32(LAYER_NORM_EPS)) * weight
    return scaled if bias is None else scaled + bias


def cut_and_normalize(rows: FloatArray, dimensions: int | None, normalize: bool) -> FloatArray:
    """Keep the leading components, then scale each row to unit length.

    Args:
        rows: float32 (…, size).
        dimensions: components to keep; None keeps all.
        normalize: L2-normalise what is kept, with the norm clamped at 1e-12.

    Returns:
        float32 (…, dimensions or size).
    """
    if dimensions is not None:
        rows = rows[..., :dimensions]
    if not normalize:
        return rows
    norms = np.sqrt(np.einsum("...i,...i->...", rows, rows))[..., None]
    return rows / np.maximum(norms, NORM_FLOOR)


def sigmoid(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Logistic function in float64, so that large logits stay distinct and nothing overflows."""
    x = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def softmax(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Softmax over the last axis in float64."""
    x = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def activate(
    logits: FloatArray, activation: Activation, logit_bias: float | None = None
) -> npt.NDArray[np.float64]:
    """Logits to probabilities.

    Args:
        logits: (…, num_labels).
        activation: "identity", "sigmoid" or "softmax".
        logit_bias: subtracted first.

    Returns:
        float64 of the same shape.
    """
    biased = np.asarray(logits, dtype=np.float64) - (logit_bias or 0.0)
    if activation == "softmax":
        return softmax(biased)
    return sigmoid(biased) if activation == "sigmoid" else biased


def _gelu(x: FloatArray) -> npt.NDArray[np.float64]:
    # numpy has no erf; a head has few rows
    erf = np.array([math.erf(value / math.sqrt(2)) for value in x.ravel()], dtype=np.float64)
    return 0.5 * x.astype(np.float64) * (1.0 + erf.reshape(x.shape))


def _softplus(x: FloatArray) -> npt.NDArray[np.float64]:
    return np.logaddexp(0.0, x.astype(np.float64))


ACTIVATIONS: dict[str, Callable[[FloatArray], npt.NDArray[np.floating]]] = {
    "Identity": lambda x: x,
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "GELU": _gelu,
    "Hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "Hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Hardtanh": lambda x: np.clip(x, -1, 1),
    "LeakyReLU": lambda x: np.where(x > 0, x, 0.01 * x),
    "LogSigmoid": lambda x: -_softplus(-x),
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "ReLU": lambda x: np.maximum(x, 0),
    "ReLU6": lambda x: np.clip(x, 0, 6),
    "SELU": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "SiLU": lambda x: x * sigmoid(x),
    "Sigmoid": sigmoid,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Tanh": np.tanh,
}
"""torch.nn activations without parameters, by class name: what a Dense module may have."""
