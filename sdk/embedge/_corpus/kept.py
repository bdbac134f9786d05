"""Saved rows and how they are stored: read as numbers, some of them at a time."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from embedge._corpus.precision import Stored, dequantize, is_bits
from embedge._corpus.sidecar import Sidecar
from embedge.types import FloatArray, IntArray

_BLOCK = 16384


class Kept(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Rows, and how they are stored.

    Attributes:
        rows: (num_rows, stored size).
        sidecar: what is said of them.
    """

    rows: Stored
    sidecar: Sidecar

    @property
    def is_bits(self) -> bool:
        """Whether a component is a bit."""
        return is_bits(self.sidecar.precision)

    def numbers(self, places: slice | IntArray) -> FloatArray:
        """Some of them as float32 (num, dimensions)."""
        facts = self.sidecar
        ranges = None if facts.ranges is None else np.array(facts.ranges, dtype=np.float32)
        return dequantize(np.asarray(self.rows[places]), facts.precision, facts.dimensions, ranges)

    def units(self, places: IntArray) -> FloatArray:
        """Some of them as `numbers`, of length 1."""
        numbers = self.numbers(places)
        numbers /= np.maximum(np.linalg.norm(numbers, axis=1, keepdims=True), np.float32(1e-12))
        return numbers


def in_blocks(places: IntArray) -> Iterator[IntArray]:
    """Positions of rows, some thousand at a time."""
    for start in range(0, len(places), _BLOCK):
        yield places[start : start + _BLOCK]
