"""The nearest rows to a vector, all rows looked at: block by block, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from embedge._corpus.kept import Kept
from embedge._corpus.precision import Stored, is_bits, sign_bits, step_sizes
from embedge._corpus.sidecar import Sidecar
from embedge.types import FloatArray, IntArray

_BLOCK_BYTES = 8 << 20
"""Of a block's components as float32: large enough that a call of numpy costs nothing beside its work."""
_BITS_IN_BLOCK = 8
"""Times as many rows are looked at together where a component is a bit."""
_CANDIDATES = 4
_CANDIDATES_OF_BITS = 40
"""For each row asked for, where a quick score chooses and an exact one decides. 40 is where nothing is lost any
more among a million rows that lie close together; see benchmarks/vectors.py."""

_Scorer: TypeAlias = Callable[[Stored], FloatArray]


def search(
    kept: Kept,
    queries: FloatArray,
    top: int,
    threads: int,
    *,
    finer: Kept | None = None,
    oversample: int | None = None,
) -> tuple[IntArray, FloatArray]:
    """Rows by cosine.

    A quick score of every row chooses candidates, whose cosines decide. It is the number of equal signs for bits, and a
    product that leaves lengths out for rows that had length 1 before they were stored.

    Args:
        kept: the rows.
        queries: float32 (num_queries, dimensions).
        top: rows for each query.
        threads: blocks that are looked at at once.
        finer: the same rows stored in more bytes, whose cosines decide instead.
        oversample: candidates for each row asked for; None takes as many as lose nothing among a million.

    Returns:
        int64 and float32 (num_queries, top or fewer): positions, and cosines in descending order; of equal ones the
        earlier row comes first. A row in steps is the middle of each, a row of bits is -1 and 1.
    """
    top = min(top, len(kept.rows))
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    unit = (queries / np.maximum(lengths, 1e-12)).astype(np.float32)
    usual = _CANDIDATES_OF_BITS if kept.is_bits else _CANDIDATES
    wanted = min(top * (usual if oversample is None else oversample), len(kept.rows))
    candidates = _best(kept, _scorer(kept.sidecar, unit), len(unit), wanted, threads)
    return _rescored(kept if finer is None else finer, unit, candidates, top)


def _scorer(sidecar: Sidecar, unit: FloatArray) -> _Scorer:
    """What scores a block, float32 (num_queries, num_rows)."""
    if is_bits(sidecar.precision):
        return _by_signs(sidecar, unit)
    if not sidecar.normalized:
        return _by_cosine(sidecar, unit)
    if sidecar.precision == "float32":
        return lambda block: unit @ block.T
    if sidecar.precision == "float16":
        return _by_halves(unit)
    return _by_steps(sidecar, unit)


def _by_cosine(sidecar: Sidecar, unit: FloatArray) -> _Scorer:
    def scores(block: Stored) -> FloatArray:
        numbers = Kept(rows=block, sidecar=sidecar).numbers(slice(None))
        cosines: FloatArray = np.matmul(unit, numbers.T)
        cosines /= _lengths(numbers)
        return cosines

    return scores


def _by_steps(sidecar: Sidecar, unit: FloatArray) -> _Scorer:
    """Products with the number of each step; where the first begins changes all of a query's scores alike."""
    weighted: FloatArray = unit * step_sizes(np.array(sidecar.ranges, dtype=np.float32))

    def scores(block: Stored) -> FloatArray:
        numbers: FloatArray = block.astype(np.float32)
        products: FloatArray = np.matmul(weighted, numbers.T)
        return products

    return scores


def _by_halves(unit: FloatArray) -> _Scorer:
    """Products with float16, whose bits are moved to where float32 has them: numpy converts ten times slower."""
    # a half's exponent, read as a float's, is smaller by the difference of their biases, 127 - 15
    larger = unit * np.float32(2.0**112)

    def scores(block: Stored) -> FloatArray:
        bits = block.view("<i2").astype(np.int32)
        bits <<= 13
        bits &= -0x70000001  # the copies of the sign that lie where an exponent begins
        products: FloatArray = np.matmul(larger, bits.view(np.float32).T)
        return products

    return scores


def _by_signs(sidecar: Sidecar, unit: FloatArray) -> _Scorer:
    asked = np.packbits(unit > 0, axis=-1)

    def scores(block: Stored) -> FloatArray:
        bits = sign_bits(block, sidecar.precision)
        return np.stack([-_differing(bits, one) for one in asked]).astype(np.float32)

    return scores


def _differing(bits: Stored, one: Stored) -> IntArray:
    """Bits of each row that differ from a query's."""
    if not hasattr(np, "bitwise_count"):  # numpy before 2.0
        table = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)
        fewer: IntArray = table[np.bitwise_xor(bits, one)].sum(1, dtype=np.int32)
        return fewer
    if bits.shape[1] % 8 == 0:
        bits, one = np.ascontiguousarray(bits).view(np.uint64), one.view(np.uint64)
    counts: IntArray = np.zeros(len(bits), dtype=np.int32)
    for place, word in enumerate(one):  # a sum along so few numbers takes numpy longer
        counts += np.bitwise_count(bits[:, place] ^ word)
    return counts


def _best(kept: Kept, scorer: _Scorer, num_queries: int, top: int, threads: int) -> list[IntArray]:
    """For each query the positions of the best rows."""
    least = np.full(num_queries, -np.inf, dtype=np.float32)

    def look(block: tuple[int, int]) -> list[tuple[IntArray, FloatArray]]:
        scores = scorer(np.asarray(kept.rows[block[0] : block[1]]))
        return [_best_of(row, least, query, top, block[0]) for query, row in enumerate(scores)]

    with ThreadPoolExecutor(threads) as pool:
        blocks = list(pool.map(look, _blocks(kept)))
    found = []
    for query in range(num_queries):
        positions = np.concatenate([block[query][0] for block in blocks])
        scores = np.concatenate([block[query][1] for block in blocks])
        found.append(positions[np.lexsort((positions, -scores))[:top]])
    return found


def _best_of(
    scores: FloatArray, least: FloatArray, query: int, top: int, first: int
) -> tuple[IntArray, FloatArray]:
    """What of a block may be among the best; `least` is what another block has `top` rows of, and is raised."""
    places = np.flatnonzero(scores >= least[query])
    if len(places) > top:
        some = scores[places]
        bound = np.partition(some, len(some) - top)[len(some) - top]
        least[query] = max(least[query], bound)
        # of equal scores the earlier has to stay
        places = np.concatenate([places[some > bound], places[some == bound]])[:top]
    return places + first, scores[places]


def _rescored(
    kept: Kept, unit: FloatArray, candidates: list[IntArray], top: int
) -> tuple[IntArray, FloatArray]:
    positions = np.empty((len(unit), top), dtype=np.int64)
    scores = np.empty((len(unit), top), dtype=np.float32)
    for index, (query, some) in enumerate(zip(unit, candidates, strict=True)):
        places = np.sort(some)
        numbers = kept.numbers(places)
        # einsum, as a product of matrices adds in another order from row to row, and equal rows are to stay equal
        cosines = np.einsum("ij,j->i", numbers, query) / _lengths(numbers)
        order = np.argsort(-cosines, kind="stable")[:top]
        positions[index], scores[index] = places[order], cosines[order]
    return positions, scores


def _lengths(numbers: FloatArray) -> FloatArray:
    """Of rows; a little for those of nothing, which is divided by."""
    lengths: FloatArray = np.maximum(np.sqrt(np.einsum("ij,ij->i", numbers, numbers)), 1e-12)
    return lengths


def _blocks(kept: Kept) -> Iterator[tuple[int, int]]:
    size = max(1, _BLOCK_BYTES // max(1, kept.sidecar.dimensions * 4))
    size *= _BITS_IN_BLOCK if kept.is_bits else 1
    for start in range(0, len(kept.rows), size):
        yield start, min(start + size, len(kept.rows))
