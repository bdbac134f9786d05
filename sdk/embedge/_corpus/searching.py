"""The nearest rows to a vector, all rows looked at: block by block, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from embedge._corpus.precision import Stored, dequantize, sign_bits
from embedge._corpus.sidecar import Sidecar
from embedge.types import FloatArray, IntArray

Scorer: TypeAlias = Callable[[Stored], FloatArray]

_BLOCK_BYTES = 8 << 20
_RESCORED = 20
"""Candidates for each row asked for, where bits are compared first."""


def search(
    rows: Stored, sidecar: Sidecar, queries: FloatArray, top: int, threads: int
) -> tuple[IntArray, FloatArray]:
    """Rows by cosine.

    Args:
        rows: as they are stored.
        sidecar: how.
        queries: float32 (num_queries, dimensions).
        top: rows for each query.
        threads: blocks that are looked at at once.

    Returns:
        int64 and float32 (num_queries, top or fewer): positions, and cosines in descending order; of equal ones the
        earlier row comes first. Rows of bits are chosen by the number of equal signs, then scored by the query's own
        numbers; rows in steps are scored by the middle of each step.
    """
    top = min(top, len(rows))
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    unit = (queries / np.maximum(lengths, 1e-12)).astype(np.float32)
    if sidecar.precision in ("binary", "ubinary"):
        candidates, _ = _best(rows, _by_signs(sidecar, unit), min(top * _RESCORED, len(rows)), threads)
        return _rescored(rows, sidecar, unit, candidates, top)
    return _best(rows, _by_cosine(sidecar, unit), top, threads)


def _by_cosine(sidecar: Sidecar, unit: FloatArray) -> Scorer:
    ranges = None if sidecar.ranges is None else np.array(sidecar.ranges, dtype=np.float32)
    exact = sidecar.normalized and sidecar.precision == "float32"

    def scores(block: Stored) -> FloatArray:
        numbers = (
            np.asarray(block)
            if sidecar.precision == "float32"
            else dequantize(block, sidecar.precision, sidecar.dimensions, ranges)
        )
        products = numbers @ unit.T
        if not exact:
            lengths = np.sqrt(np.einsum("ij,ij->i", numbers, numbers))
            products /= np.maximum(lengths, 1e-12)[:, None]
        return products.T

    return scores


def _by_signs(sidecar: Sidecar, unit: FloatArray) -> Scorer:
    asked = np.packbits(unit > 0, axis=-1)

    def scores(block: Stored) -> FloatArray:
        bits = sign_bits(np.asarray(block), sidecar.precision)
        return np.stack([-_differing(bits, one) for one in asked]).astype(np.float32)

    return scores


def _differing(bits: Stored, one: Stored) -> IntArray:
    """Bits of each row that differ from a query's."""
    different = np.bitwise_xor(bits, one)
    if different.shape[1] % 8 == 0:
        different = np.ascontiguousarray(different).view(np.uint64)
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(different).sum(1, dtype=np.int64)
    table = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)  # numpy before 2.0
    counts: IntArray = table[np.ascontiguousarray(different).view(np.uint8)].sum(1, dtype=np.int64)
    return counts


def _best(rows: Stored, scorer: Scorer, top: int, threads: int) -> tuple[IntArray, FloatArray]:
    with ThreadPoolExecutor(threads) as pool:
        parts = list(
            pool.map(lambda block: _best_of(block[0], rows[block[0] : block[1]], scorer, top), _blocks(rows))
        )
    positions = np.concatenate([each for each, _ in parts], axis=1)
    scores = np.concatenate([each for _, each in parts], axis=1)
    order = np.lexsort((positions, -scores), axis=1)[:, :top]
    return np.take_along_axis(positions, order, 1), np.take_along_axis(scores, order, 1)


def _best_of(first: int, block: Stored, scorer: Scorer, top: int) -> tuple[IntArray, FloatArray]:
    scores = scorer(block)
    count = scores.shape[1]
    if count > top:
        # one more than asked for does not hurt, and of equal scores the earlier has to stay
        least = np.partition(scores, count - top, axis=1)[:, count - top]
        chosen = [
            np.concatenate([np.flatnonzero(row > bound), np.flatnonzero(row == bound)])[:top]
            for row, bound in zip(scores, least, strict=True)
        ]
        places = np.stack(chosen)
    else:
        places = np.broadcast_to(np.arange(count), scores.shape)
    return places + first, np.take_along_axis(scores, places, 1)


def _rescored(
    rows: Stored, sidecar: Sidecar, unit: FloatArray, candidates: IntArray, top: int
) -> tuple[IntArray, FloatArray]:
    positions = np.empty((len(unit), top), dtype=np.int64)
    scores = np.empty((len(unit), top), dtype=np.float32)
    for index, (query, some) in enumerate(zip(unit, candidates, strict=True)):
        signs = dequantize(np.asarray(rows[some]), sidecar.precision, sidecar.dimensions)
        cosines = signs @ query / np.float32(np.sqrt(sidecar.dimensions))
        order = np.lexsort((some, -cosines))[:top]
        positions[index], scores[index] = some[order], cosines[order]
    return positions, scores


def _blocks(rows: Stored) -> Iterator[tuple[int, int]]:
    size = max(1, _BLOCK_BYTES // max(1, rows.shape[1] * 4))
    for start in range(0, len(rows), size):
        yield start, min(start + size, len(rows))
