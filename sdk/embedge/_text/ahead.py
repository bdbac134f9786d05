"""Tokenising ahead of the devices: prompts arrive in pieces while earlier ones are computed."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import numpy as np

from embedge._sequence import MadeOnDemand
from embedge._text.padding import Indices
from embedge._text.tokens import Encoded, EncodedRows
from embedge._workers import AtOnce, Waited
from embedge._workers import start as begin

FROM_PROMPTS = 4096
"""Fewer prompts are tokenised at once: their tokenising takes less time than it would save."""
PIECE = 2048
_FIRST_PIECE = 1024
_PIECE_SIZE = 2**21
"""Limit on the sizes of a piece's prompts together, as what the tokenizer makes of them takes room."""


class ArrivingRows(MadeOnDemand[Encoded]):
    """Prompts that are tokenised piece by piece, those that look longest first, as they are asked for.

    Args:
        sizes: what the prompts' numbers of tokens are expected to go with, such as their characters.
        encode: tokenises the prompts at some positions.
        ahead: pieces to tokenise, in threads of their own, while one is used. With a single one,
            processors would stand idle while Python prepares a piece's texts and takes its tokens over.
    """

    _noun = "prompts"

    def __init__(
        self, sizes: Sequence[int], encode: Callable[[list[int]], EncodedRows], ahead: int = 2
    ) -> None:
        self._encode = encode
        self._ahead = ahead
        given = np.asarray(sizes, dtype=np.int64)
        self._order = np.argsort(-given, kind="stable")
        self._total_sizes = np.cumsum(given[self._order])
        self._pieces: list[EncodedRows] = []
        # piece of each prompt, -1 before it arrived, and its index there
        self._piece_of = np.full(len(sizes), -1, dtype=np.int64)
        self._index_in_piece = np.zeros(len(sizes), dtype=np.int64)
        self._begun: collections.deque[tuple[Indices, Waited[EncodedRows]]] = collections.deque()

    def arrivals(self) -> Generator[tuple[Indices, EncodedRows], None, None]:
        """Tokenise what has not been tokenised yet. Close the generator to stop early; that ends its threads.

        Yields:
            Positions of a piece's prompts, and their tokens; all pieces from the first on.

        Raises:
            PromptError: from `encode`.
        """
        index = 0
        start = 0
        try:
            while start < len(self._order):
                if index == len(self._pieces):
                    self._next(self._ahead)
                piece = self._pieces[index]
                yield self._order[start : start + len(piece)], piece
                index += 1
                start += len(piece)
        finally:
            self._abandon()

    def _next(self, ahead: int) -> None:
        """Begin further pieces, then wait for the next one."""
        while len(self._begun) <= ahead:
            positions = self._following()
            if not len(positions):
                break
            encode = partial(self._encode, positions.tolist())
            self._begun.append((positions, begin(encode) if ahead else AtOnce(encode)))
        positions, wait = self._begun[0]
        piece = wait()
        self._begun.popleft()
        self._index_in_piece[positions] = np.arange(len(positions))
        self._pieces.append(piece)
        self._piece_of[positions] = len(self._pieces) - 1

    def _following(self) -> Indices:
        """Prompts of the piece after those that arrived or were begun; the first pieces are small."""
        sizes = [len(piece) for piece in self._pieces] + [len(positions) for positions, _ in self._begun]
        start = sum(sizes)
        most = min(PIECE, max(_FIRST_PIECE, 2 * sizes[-1] if sizes else 0))
        before = self._total_sizes[start - 1] if start else 0
        end = int(np.searchsorted(self._total_sizes, before + _PIECE_SIZE, side="right"))
        return self._order[start : max(start + 1, min(start + most, end))]

    def _abandon(self) -> None:
        while self._begun:
            _, each = self._begun.pop()
            each.abandon()

    def __len__(self) -> int:
        return len(self._order)

    def __reduce__(self) -> tuple[Any, ...]:
        # of a call that was answered, whose prompts have all arrived
        return EncodedRows.of, (list(self),)

    def _item(self, position: int) -> Encoded:
        while self._piece_of[position] < 0:
            self._next(ahead=0)
        return self._pieces[self._piece_of[position]][int(self._index_in_piece[position])]
