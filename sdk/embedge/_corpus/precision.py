"""Vectors in fewer bytes, as sentence-transformers' quantize_embeddings packs them, and back."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from embedge.errors import CorpusError
from embedge.types import FloatArray

Precision: TypeAlias = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
Stored: TypeAlias = npt.NDArray[Any]

PRECISIONS = get_args(Precision)
_STEPS = 255

_TYPES: dict[Precision, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.int8,
    "ubinary": np.uint8,
}


def stored_type(precision: Precision) -> np.dtype[Any]:
    """Type of a stored component, or of eight where they are bits; little-endian."""
    return np.dtype(_TYPES[precision]).newbyteorder("<")


def is_bits(precision: Precision) -> bool:
    """Whether a component is stored as a bit, its sign."""
    return precision in ("binary", "ubinary")


def stored_size(precision: Precision, dimensions: int) -> int:
    """Stored numbers of a row."""
    return -(-dimensions // 8) if is_bits(precision) else dimensions


def needs_ranges(precision: Precision) -> bool:
    """Whether components are stored as steps between a smallest and a largest value."""
    return precision in ("int8", "uint8")


def find_ranges(rows: FloatArray) -> FloatArray:
    """Smallest and largest value of each component, float32 (2, dimensions)."""
    return np.stack([rows.min(0), rows.max(0)])


def quantize(rows: FloatArray, precision: Precision, ranges: FloatArray | None = None) -> Stored:
    """Pack rows.

    Args:
        rows: float32 (num_rows, dimensions).
        precision: what a component becomes; bits tell its sign, eight of them in a number.
        ranges: of `find_ranges`, for int8 and uint8; values beyond become the nearest.

    Returns:
        (num_rows, stored_size).
    """
    if precision in ("float32", "float16"):
        return rows.astype(stored_type(precision))
    if is_bits(precision):
        packed = np.packbits(rows > 0, axis=-1)
        return packed if precision == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
    starts, steps = _grid(ranges)
    values = np.clip(np.floor((rows - starts) / steps), 0, _STEPS)
    return values.astype(np.uint8) if precision == "uint8" else (values - 128).astype(np.int8)


def dequantize(
    stored: Stored, precision: Precision, dimensions: int, ranges: FloatArray | None = None
) -> FloatArray:
    """Rows as float32 (num_rows, dimensions): the middle of each step, and -1 and 1 for bits."""
    if precision in ("float32", "float16"):
        return stored.astype(np.float32)
    if is_bits(precision):
        bits = np.unpackbits(sign_bits(stored, precision), axis=-1, count=dimensions)
        return bits.astype(np.float32) * 2 - 1
    starts, steps = _grid(ranges)
    values = stored.astype(np.float32) + (128 if precision == "int8" else 0)
    # a component without a range has one value, which is where its step begins
    middle = np.where(np.asarray(ranges)[0] == np.asarray(ranges)[1], 0, 0.5).astype(np.float32)
    return (starts + (values + middle) * steps).astype(np.float32)


def sign_bits(stored: Stored, precision: Precision) -> npt.NDArray[np.uint8]:
    """Rows of bits as np.packbits makes them."""
    if precision == "ubinary":
        return stored.astype(np.uint8, copy=False)
    return stored.view(np.uint8) ^ np.uint8(128)  # less 128 is, in two's complement, its first bit turned


def step_sizes(ranges: FloatArray) -> FloatArray:
    """Of each component, float32 (dimensions,), for int8 and uint8."""
    return _grid(ranges)[1]


def _grid(ranges: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    if ranges is None:
        raise CorpusError(
            "these rows are stored in steps, and their ranges are missing; expected them beside the rows"
        )
    steps = (ranges[1] - ranges[0]) / _STEPS
    return ranges[0], np.where(steps == 0, np.float32(1), steps).astype(np.float32)
