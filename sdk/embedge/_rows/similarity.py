"""How a checkpoint compares embeddings.

Source: sentence-transformers `util.similarity`; checked by every export's witness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from embedge._rows.heads import cut_and_normalize
from embedge.errors import ShapeError
from embedge.manifest import Similarity
from embedge.types import FloatArray

_BLOCK_NUMBERS = 2**22
"""Differences that are held at a time."""


def similarities(embeddings_1: Any, embeddings_2: Any, how: Similarity) -> FloatArray:
    """Compare each of the first embeddings with each of the second.

    Args:
        embeddings_1: (num_1, dim), or (dim,) for one: an array, or anything that numpy takes for one.
        embeddings_2: (num_2, dim), likewise.
        how: larger is nearer with each; of distances it is the negative.

    Returns:
        float32 (num_1, num_2).

    Raises:
        ShapeError: they are no such arrays, or of different sizes.
    """
    first, second = (
        _rows(given, name) for given, name in ((embeddings_1, "embeddings_1"), (embeddings_2, "embeddings_2"))
    )
    if first.shape[1] != second.shape[1] and len(first) and len(second):
        raise ShapeError(
            f"embeddings_1 have {first.shape[1]} components and embeddings_2 have {second.shape[1]}; expected as many, "
            "made by the same model with the same dimensions"
        )
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)), dtype=np.float32)
    return _COMPARED[how](first, second)


def _rows(given: Any, name: str) -> FloatArray:
    expected = "expected (num_embeddings, dim), or (dim,) for one, as embed(...) returns"
    try:
        rows = np.asarray(given)
    except ValueError as error:
        raise ShapeError(f"{name} form no array: {error}; {expected}") from error
    if rows.dtype.kind not in "fiu":
        raise ShapeError(f"{name} hold {rows.dtype}, no numbers; {expected}")
    if rows.size == 0:
        return np.zeros((len(rows) if rows.ndim else 0, 0), dtype=np.float32)
    if rows.ndim not in (1, 2):
        raise ShapeError(f"{name} have shape {rows.shape}; {expected}")
    return np.atleast_2d(rows).astype(np.float32, copy=False)


def _cosine(first: FloatArray, second: FloatArray) -> FloatArray:
    unit_1, unit_2 = (cut_and_normalize(rows, None, normalize=True) for rows in (first, second))
    return unit_1 @ unit_2.T


def _dot(first: FloatArray, second: FloatArray) -> FloatArray:
    return first @ second.T


def _euclidean(first: FloatArray, second: FloatArray) -> FloatArray:
    return _from_differences(first, second, lambda differences: np.linalg.norm(differences, axis=-1))


def _manhattan(first: FloatArray, second: FloatArray) -> FloatArray:
    return _from_differences(first, second, lambda differences: np.abs(differences).sum(axis=-1))


def _from_differences(
    first: FloatArray, second: FloatArray, distance: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    found = np.empty((len(first), len(second)), dtype=np.float32)
    block = max(1, _BLOCK_NUMBERS // second.size)
    for start in range(0, len(first), block):
        # (block, num_2, dim)
        differences = first[start : start + block, None] - second[None]
        found[start : start + block] = -distance(differences)
    return found


_COMPARED: dict[Similarity, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
