"""A matrix in 8 bits, rounded so that its products with what it really multiplies come out right.

Rounding each weight to the nearest step leaves errors that add up in directions in which activations are large. Here
each row of the matrix makes up for the errors of the rows that were rounded before it, as far as the activations of
the calibration texts go together. Nothing is added to what is computed later.

Source: GPTQ (Frantar et al., 2022), in the equivalent form of Babai's nearest plane (Chen et al., 2025), which needs
one Cholesky factor and no inverse.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from embedge.types import FloatArray

SMALLEST_SCALE = 1e-10

_BLOCK = 64
_DAMPING = 0.01
"""Share of the mean square of a channel that is taken for unknown: channels that rest must not carry others' errors."""

_MOST_CHANNELS = 4096
"""Beyond, the factor takes longer than the rest of the export."""


class Rounded(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A matrix as whole numbers from -127 to 127, and the scale of each column.

    Attributes:
        values: int8 (in_features, out_features).
        scales: float32 (out_features,).
    """

    values: np.ndarray[tuple[int, int], np.dtype[np.int8]]
    scales: FloatArray


def round_columns(matrix: FloatArray) -> Rounded:
    """Round every weight to the nearest step of its column."""
    scales = _scales(matrix)
    return Rounded(values=np.rint(matrix / scales).astype(np.int8), scales=scales)


def round_for(rows: FloatArray, matrices: Sequence[FloatArray]) -> list[Rounded]:
    """Round matrices for the rows that they multiply.

    Args:
        rows: some of them as they are computed with, float32 (num_rows, in_features).
        matrices: each (in_features, out_features).
    """
    if rows.shape[1] > _MOST_CHANNELS:
        return [round_columns(matrix) for matrix in matrices]
    together = rows.T @ rows
    channels = len(together)
    damping = max(_DAMPING * float(np.trace(together)) / channels, 1e-12)
    together[np.diag_indices(channels)] += damping
    upper = np.linalg.cholesky(together.astype(np.float64)).T.astype(np.float32)
    upper /= np.diagonal(upper)[:, None].copy()
    side_by_side = np.concatenate(matrices, axis=1)
    scales = _scales(side_by_side)
    # in steps of each column, what every row was off by once it was rounded
    wanted = side_by_side / scales
    errors = np.zeros_like(wanted)
    values = np.empty(wanted.shape, dtype=np.int8)
    for end in range(channels, 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        carried = wanted[start:end] + upper[start:end, end:] @ errors[end:]
        for row in range(end - 1, start - 1, -1):
            aim = carried[row - start] + upper[row, row + 1 : end] @ errors[row + 1 : end]
            rounded = np.clip(np.rint(aim), -127, 127)
            values[row] = rounded
            errors[row] = wanted[row] - rounded
    edges = np.cumsum([matrix.shape[1] for matrix in matrices])[:-1]
    return [
        Rounded(values=part, scales=of_part)
        for part, of_part in zip(np.split(values, edges, axis=1), np.split(scales, edges), strict=True)
    ]


def _scales(matrix: FloatArray) -> FloatArray:
    scales: FloatArray = np.maximum(np.abs(matrix).max(axis=0), SMALLEST_SCALE).astype(
        np.float32
    ) / np.float32(127)
    return scales
