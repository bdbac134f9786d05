"""Words for reading a configuration: the parts that families have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from embedge.errors import ExportError
from embedge_export.families.structure import Attention, HiddenActivation, Linear, Norm, Tensor

Config: TypeAlias = Mapping[str, Any]

_ACTIVATIONS: dict[str, HiddenActivation] = {
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


TENSORFLOW_NORMS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""What files from the days of TensorFlow call a norm's weight and its bias."""


class UnsupportedError(ExportError):
    """The builder does not know this configuration; the traced graph does."""


def linear(name: str, out_features: int, in_features: int, bias: bool = True) -> Linear:
    """A projection, stored as torch stores it."""
    return Linear(
        weight=Tensor(name=f"{name}.weight", shape=(out_features, in_features)),
        bias=Tensor(name=f"{name}.bias", shape=(out_features,)) if bias else None,
    )


def rows(merged: Linear, start: int, stop: int) -> Linear:
    """Some rows of a merged projection."""
    bias = merged.bias
    return Linear(
        weight=Tensor(name=merged.weight.name, shape=merged.weight.shape, rows=(start, stop)),
        bias=None if bias is None else Tensor(name=bias.name, shape=bias.shape, rows=(start, stop)),
    )


def layer_norm(name: str, size: int, epsilon: float, bias: bool = True) -> Norm:
    """A layer normalisation."""
    return Norm(
        kind="layer",
        epsilon=epsilon,
        weight=Tensor(name=f"{name}.weight", shape=(size,)),
        bias=Tensor(name=f"{name}.bias", shape=(size,)) if bias else None,
    )


def rms_norm(name: str, size: int, epsilon: float, offset: float = 0.0) -> Norm:
    """A root-mean-square normalisation; `offset` is added to its weight."""
    return Norm(
        kind="rms", epsilon=epsilon, weight=Tensor(name=f"{name}.weight", shape=(size,), offset=offset)
    )


def activation(name: Any) -> HiddenActivation:
    """The activation that a configuration names.

    Raises:
        UnsupportedError: the builder does not have it.
    """
    if name not in _ACTIVATIONS:
        raise UnsupportedError(
            f"activation {name!r} has no built graph; expected one of {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def expect(config: Config, **expected: Any) -> None:
    """Refuse options that would change the computation.

    Raises:
        UnsupportedError: a key is there with another value.
    """
    for key, value in expected.items():
        if config.get(key) not in (value, None):
            raise UnsupportedError(f"{key}={config[key]!r} has no built graph; expected {value!r}")


def self_attention(
    size: int, heads: int, query_key_value: Iterable[Linear], output: Linear, **options: Any
) -> Attention:
    """Attention with as many heads for keys and values as for queries."""
    query, key, value = query_key_value
    if heads < 1 or size % heads:
        raise UnsupportedError(f"hidden size {size} is not a multiple of {heads} heads")
    head_dim = size // heads
    return Attention(
        query=query,
        key=key,
        value=value,
        output=output,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        **options,
    )


def classifier(config: Config, size: int, name: str = "classifier") -> Linear:
    """The projection to one logit for each label."""
    return linear(name, len(config["id2label"]), size)
