"""Rows compared with rows: near duplicates, and the nearest in another output; block by block."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from embedge._corpus.kept import Kept
from embedge._corpus.searching import search
from embedge.types import FloatArray, IntArray

_BLOCK = 2048
_ASKED = 256
_ROUNDING = 1e-6
"""Equal rows have a cosine that is 1 but for this."""


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is near an earlier one.

    Attributes:
        row: its position.
        of: the nearest of the earlier rows that are kept.
        score: cosine of both.
    """

    row: int
    of: int
    score: float


def find_duplicates(kept: Kept, threshold: float, threads: int) -> Iterator[Duplicate]:
    """Rows near an earlier row that is kept, in order; a row is kept where none is.

    Every row is compared with all that are kept before it, so the work grows with the square of their number.

    Args:
        kept: the rows.
        threshold: cosine from which rows are near.
        threads: products that are made at once.
    """
    least = threshold - _ROUNDING
    originals: list[IntArray] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(kept.rows), _BLOCK):
            block = kept.units(np.arange(start, min(start + _BLOCK, len(kept.rows))))
            scores, nearest = _nearest(block, kept, originals, pool)
            own = _among_themselves(block, scores, nearest, least, start)
            for place in np.flatnonzero(~own):
                of, score = int(nearest[place]), float(scores[place])
                yield Duplicate(row=start + int(place), of=of, score=score)
            originals.append(start + np.flatnonzero(own))


def find_similar(
    asked: Kept, kept: Kept, top: int, threads: int
) -> Iterator[tuple[int, IntArray, FloatArray]]:
    """For blocks of rows: the first one's position, and the positions and cosines of the nearest, as `search` gives."""
    for start in range(0, len(asked.rows), _ASKED):
        queries = asked.numbers(slice(start, start + _ASKED))
        yield start, *search(kept, queries, top, threads)


def _nearest(
    block: FloatArray, kept: Kept, originals: list[IntArray], pool: ThreadPoolExecutor
) -> tuple[FloatArray, IntArray]:
    """The nearest of the rows that are kept so far, for each row of a block."""
    scores = np.full(len(block), -np.inf, dtype=np.float32)
    nearest = np.full(len(block), -1, dtype=np.int64)

    def compared(places: IntArray) -> tuple[FloatArray, IntArray]:
        products = np.matmul(block, kept.units(places).T)
        best = products.argmax(1)
        return products[np.arange(len(block)), best], places[best]

    for some, places in pool.map(compared, [each for each in originals if len(each)]):
        nearer = some > scores  # of equal ones the earlier stays
        scores[nearer], nearest[nearer] = some[nearer], places[nearer]
    return scores, nearest


def _among_themselves(
    block: FloatArray, scores: FloatArray, nearest: IntArray, least: float, start: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows of a block are kept; the others' scores and nearest are brought up to date."""
    own = scores < least
    products = np.tril(np.matmul(block, block.T), -1)
    for place in np.flatnonzero((products >= least).any(1)):
        before = np.where(own[:place], products[place, :place], -np.inf)
        best = int(before.argmax())
        if before[best] >= least and before[best] > scores[place]:
            scores[place], nearest[place] = before[best], start + best
            own[place] = False
    return own
