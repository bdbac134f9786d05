"""Frequencies of rotary positions, by the scaling that a configuration states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from embedge_export.families.parts import Config, UnsupportedError
from embedge_export.families.structure import Rotary


def rotary(theta: float, size: int, scaling: Config | None = None) -> Rotary:
    """Frequencies of transformers' rotary embedding.

    Args:
        theta: base of the geometric series.
        size: components that are rotated.
        scaling: rope_scaling of the configuration.

    Raises:
        UnsupportedError: a scaling whose frequencies depend on the text's length, or one not known here.
    """
    frequencies = _plain(theta, size)
    stated: dict[str, Any] = dict(scaling or {})
    kind = stated.get("rope_type", stated.get("type", "default"))
    if kind == "linear":
        frequencies = frequencies / np.float32(stated["factor"])
    elif kind == "llama3":
        frequencies = _llama3(frequencies, stated)
    elif kind != "default":
        raise UnsupportedError(
            f"rope_scaling {kind!r} has no built graph; expected default, linear or llama3"
        )
    return _rotary(frequencies)


def ntk_rotary(theta: float, size: int, factor: float, mixed: float | None) -> Rotary:
    """Frequencies of GTE's fixed NTK scaling.

    Args:
        theta: base of the geometric series.
        size: components that are rotated.
        factor: how much longer the texts may be than those of the training.
        mixed: exponent of the mixed form, if the configuration states one.
    """
    if mixed is None:
        return _rotary(_plain(theta * factor, size) / np.float32(factor ** (2 / size)))
    strength = math.log(factor) / (size / 2) ** mixed
    divisors = np.exp(strength * np.arange(1, size // 2 + 1, dtype=np.float32) ** np.float32(mixed))
    return _rotary(_plain(theta, size) / divisors.astype(np.float32))


def _plain(theta: float, size: int) -> Any:
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    return np.float32(1.0) / np.power(np.float32(theta), exponents, dtype=np.float32)


def _llama3(frequencies: Any, stated: dict[str, Any]) -> Any:
    factor, low, high = (float(stated[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = float(stated["original_max_position_embeddings"])
    lengths = 2 * math.pi / frequencies
    smooth = (trained / lengths - low) / (high - low)
    between = (1 - smooth) * frequencies / factor + smooth * frequencies
    scaled = np.where(lengths > trained / low, frequencies / factor, frequencies)
    medium = (lengths >= trained / high) & (lengths <= trained / low)
    return np.where(medium, between, scaled).astype(np.float32)


def _rotary(frequencies: Any) -> Rotary:
    return Rotary(frequencies=tuple(float(value) for value in frequencies))
