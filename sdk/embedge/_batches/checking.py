"""A graph's outputs held against the batch that it was given, and refused where they hold no numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from embedge._text.padding import Indices
from embedge.errors import NumericalError, SessionError
from embedge.types import FloatArray

_FEW = 4096
"""Numbers whose squares are added up sooner than numpy is told to pass over an overflow."""


def checked(array: np.ndarray[Any, Any], output: str, shape: tuple[int, ...]) -> FloatArray:
    """What a graph gave for a batch of (batch, seq_len), as float32: numbers, and a row for each text."""
    if array.dtype.kind != "f" or array.ndim < 2 or array.shape[0] != shape[0]:
        raise wrong_shape(output, array, f"({shape[0]}, …) of floats")
    return array.astype(np.float32, copy=False)


def wrong_shape(output: str, array: np.ndarray[Any, Any], expected: str) -> SessionError:
    """What to raise for an output that the manifest does not describe."""
    return SessionError(
        f"the graph's output {output!r} is {array.dtype} of shape {array.shape}; expected {expected} as the manifest "
        "states. Export the model again."
    )


def check_finite(rows: FloatArray, positions: Indices) -> None:
    """Refuse NaN and infinity.

    Args:
        rows: (batch, …).
        positions: the prompt of each row.

    Raises:
        NumericalError: names the first prompt concerned.
    """
    # a sum is finite only if all is; one that is not may have overflowed
    if rows.size <= _FEW:
        total = np.vdot(rows, rows)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            total = rows.sum()
    if math.isfinite(total) or np.isfinite(rows).all():
        return
    bad = ~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    index = int(positions[bad].min())
    raise NumericalError(
        f"the graph returned NaN or infinity for prompt {index}. A half-precision variant may have overflowed: "
        "use variant='fp32', or run embedge verify on the bundle.",
        index=index,
    )
