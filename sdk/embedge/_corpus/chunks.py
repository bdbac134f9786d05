"""Rows are taken in chunks that are computed and committed as one; equal texts of a chunk are computed once."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from embedge._corpus.records import Row
from embedge.errors import CorpusError

Asked: TypeAlias = "str | tuple[str, str]"
"""What the model is asked: a text, or a pair."""


class Chunk(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Rows that are computed and committed together.

    Attributes:
        rows: those that can be used, in order.
        rejected: the others, in order.
        asked: their texts or pairs, each once.
        which: for each row the place of its text in `asked`.
        num_read: rows that were read, rejected ones included.
    """

    rows: tuple[Row, ...]
    rejected: tuple[Row, ...]
    asked: tuple[Asked, ...]
    which: tuple[int, ...]

    @property
    def num_read(self) -> int:
        """Rows that were read, rejected ones included."""
        return len(self.rows) + len(self.rejected)


def take_chunks(rows: Iterator[Row], size: int) -> Iterator[Chunk]:
    """Cut rows into chunks of `size` different texts, so that every window of the model is full."""
    taken: list[Row] = []
    rejected: list[Row] = []
    places: dict[Asked, int] = {}
    which: list[int] = []
    for row in rows:
        if row.problem:
            rejected.append(row)
            continue
        asked = row.text if row.pair is None else (row.text, row.pair)
        place = places.get(asked)
        if place is None:
            if len(places) == size:
                yield _chunk(taken, rejected, places, which)
                taken, rejected, places, which = [], [], {}, []
            place = places[asked] = len(places)
        taken.append(row)
        which.append(place)
    if taken or rejected:
        yield _chunk(taken, rejected, places, which)


def _chunk(taken: list[Row], rejected: list[Row], places: dict[Asked, int], which: list[int]) -> Chunk:
    return Chunk(rows=tuple(taken), rejected=tuple(rejected), asked=tuple(places), which=tuple(which))


def refuse_repeated(rows: Iterator[Row]) -> Iterator[Row]:
    """Pass rows on, and raise where an identifier comes a second time.

    Raises:
        CorpusError: the message names the row.
    """
    seen: set[bytes] = set()
    for row in rows:
        if not row.problem:
            # 8 bytes instead of the identifier: a million of them take 80 MB, whatever their length
            key = blake2b(repr(row.identifier).encode(), digest_size=8).digest()
            if key in seen:
                raise CorpusError(
                    f"{row.file}:{row.line}: identifier {row.identifier!r} is there a second time; expected each once. "
                    "Leave out --id-column to number the rows."
                )
            seen.add(key)
        yield row
