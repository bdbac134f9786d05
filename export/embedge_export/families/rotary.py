"""Frequencies of rotary positions, by the scaling that a configuration states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from embedge_export.families.parts import Config, UnsupportedError
from embedge_export.families.structure import Rotary

_YARN_FAST, _YARN_SLOW = 32.0, 1.0
_KNOWN = {
    "default": (),
    "dynamic": ("factor",),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "longrope": (
        "attention_factor",
        "factor",
        "long_factor",
        "original_max_position_embeddings",
        "short_factor",
    ),
    "yarn": (
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "factor",
        "mscale",
        "mscale_all_dim",
        "original_max_position_embeddings",
        "truncate",
    ),
}
"""Scalings, and what they are stated with; "dynamic" and "longrope" up to the length at which they change."""
_ALWAYS = ("rope_theta", "rope_type", "partial_rotary_factor")


def rotary(stated: Config, size: int) -> Rotary:
    """Frequencies of transformers' rotary embedding.

    Args:
        stated: rope_parameters of one kind of layer, with rope_theta and rope_type; see families/spelling.py.
        size: components that are rotated.

    Raises:
        UnsupportedError: a scaling that is not known here.
    """
    kind = stated["rope_type"]
    if kind not in _KNOWN:
        raise UnsupportedError(f"rope_type {kind!r} has no built graph; expected one of {', '.join(_KNOWN)}")
    unknown = [key for key in stated if key not in (*_ALWAYS, *_KNOWN[kind])]
    if unknown:
        raise UnsupportedError(
            f"rope_parameters of type {kind!r} state {unknown[0]!r}, which has no built graph; expected "
            f"{', '.join(_KNOWN[kind]) or 'rope_theta alone'}"
        )
    if stated.get("partial_rotary_factor") not in (None, 1.0):
        raise UnsupportedError(
            f"partial_rotary_factor={stated['partial_rotary_factor']!r} has no built graph; expected 1.0"
        )
    theta = float(stated["rope_theta"])
    frequencies = _plain(theta, size)
    if kind == "linear":
        return _rotary(frequencies / np.float32(stated["factor"]))
    if kind == "llama3":
        return _rotary(_llama3(frequencies, stated))
    if kind == "yarn":
        return _rotary(_yarn(frequencies, theta, size, stated), _yarn_scale(stated))
    if kind == "longrope":
        if len(stated["short_factor"]) != len(frequencies):
            raise UnsupportedError(
                f"short_factor has {len(stated['short_factor'])} numbers; expected {len(frequencies)}, one a frequency"
            )
        return _rotary(frequencies / np.asarray(stated["short_factor"], np.float32), _longrope_scale(stated))
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


def _llama3(frequencies: Any, stated: Config) -> Any:
    factor, low, high = (float(stated[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = float(stated["original_max_position_embeddings"])
    lengths = 2 * math.pi / frequencies
    smooth = (trained / lengths - low) / (high - low)
    between = (1 - smooth) * frequencies / factor + smooth * frequencies
    scaled = np.where(lengths > trained / low, frequencies / factor, frequencies)
    medium = (lengths >= trained / high) & (lengths <= trained / low)
    return np.where(medium, between, scaled).astype(np.float32)


def _yarn(frequencies: Any, theta: float, size: int, stated: Config) -> Any:
    """Fast pairs as trained, slow ones stretched by the factor, and a ramp between them."""
    trained = float(stated["original_max_position_embeddings"])

    def pair(turns: float) -> float:
        """The pair that turns so often within the trained length, as a fraction."""
        return size * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = pair(float(stated.get("beta_fast") or _YARN_FAST))
    high = pair(float(stated.get("beta_slow") or _YARN_SLOW))
    if stated.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(size // 2, dtype=np.float32) - low) / (high - low), 0, 1)
    stretched = frequencies / np.float32(stated["factor"])
    return (stretched * ramp + frequencies * (1 - ramp)).astype(np.float32)


def _yarn_scale(stated: Config) -> float:
    """What cosine and sine are multiplied by."""
    if stated.get("attention_factor") is not None:
        return float(stated["attention_factor"])
    factor, scales = float(stated["factor"]), (stated.get("mscale"), stated.get("mscale_all_dim"))

    def at(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    if all(scales):
        return at(float(scales[0] or 0)) / at(float(scales[1] or 0))
    return at(1.0)


def _longrope_scale(stated: Config) -> float:
    """What cosine and sine are multiplied by."""
    if stated.get("attention_factor") is not None:
        return float(stated["attention_factor"])
    factor, trained = float(stated["factor"]), float(stated["original_max_position_embeddings"])
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained))


def _rotary(frequencies: Any, scale: float = 1.0) -> Rotary:
    return Rotary(frequencies=tuple(float(value) for value in frequencies), scale=scale)
