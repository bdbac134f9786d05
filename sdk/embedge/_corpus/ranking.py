"""Scored rows are put in order, the best first; no more of them are held than are asked for."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

import msgspec

from embedge._corpus.compute import Answered
from embedge._corpus.records import Identifier


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A row and its score.

    Attributes:
        index: its position among the rows that were scored.
        id: of the id column, or its position.
        score: for the query.
        document: its text.
    """

    index: int
    id: Identifier
    score: float
    document: str


def rank(answers: Iterable[Answered], top: int | None) -> list[Ranked]:
    """The rows of chunks by score; of equal ones the earlier comes first.

    Args:
        answers: of task "score".
        top: how many are kept; None keeps all.
    """
    rows = _rows(answers)
    return sorted(rows, key=_order) if top is None else heapq.nsmallest(top, rows, key=_order)


def _order(row: Ranked) -> tuple[float, int]:
    return -row.score, row.index


def _rows(answers: Iterable[Answered]) -> Iterator[Ranked]:
    index = 0
    for answered in answers:
        for row, place in zip(answered.rows, answered.which, strict=True):
            score = float(answered.numbers[place, 0])
            own = index if row.identifier is None else row.identifier
            yield Ranked(index=index, id=own, score=score, document=row.text)
            index += 1
