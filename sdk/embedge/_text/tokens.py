"""Token ids of prompts: one at a time, or many in a few arrays from which padded batches are gathered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import overload

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.types import IntArray, Side

Positions = npt.NDArray[np.intp]
SmallInts = npt.NDArray[np.int32]


class Encoded(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """One prompt or pair as token ids.

    Attributes:
        token_ids: specials included.
        num_truncated: tokens dropped, on both sides of a pair together.
        type_ids: segment of each token of a pair; None where all are 0.
        offsets: start and end character of each token, (0, 0) for specials; only where asked for.
        num_prompt_tokens: leading tokens that belong to the first special tokens and a stored prompt.
        num_attended: leading tokens that are attended to, for late interaction's query expansion; None means all.
        num_truncated_query: of num_truncated, those of a pair's first side.
    """

    token_ids: list[int]
    num_truncated: int = 0
    type_ids: list[int] | None = None
    offsets: list[tuple[int, int]] | None = None
    num_prompt_tokens: int = 0
    num_attended: int | None = None
    num_truncated_query: int = 0


class TokenBatch(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Padded rows, each array int64 (batch, seq_len).

    Attributes:
        input_ids: token ids, padding filled with the tokenizer's pad id.
        attention_mask: 1 for the tokens that are attended to.
        type_ids: segments; None where all are 0.
    """

    input_ids: IntArray
    attention_mask: IntArray
    type_ids: IntArray | None


class EncodedRows(Sequence[Encoded]):
    """Many prompts in a few arrays: 4 bytes per token instead of an int object, and no loop over a batch's tokens.

    Args:
        rows: the prompts.
    """

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self._lens = _ints([len(e.token_ids) for e in rows])
        self._token_ids = _flat([e.token_ids for e in rows], int(self._lens.sum()))
        self._starts = np.cumsum(self._lens, dtype=np.int64) - self._lens
        attended = [e.num_attended for e in rows]
        self._attended = (
            self._lens
            if all(count is None for count in attended)
            else _ints([n if a is None else a for n, a in zip(self._lens, attended, strict=True)])
        )
        self._type_ids = (
            None
            if all(e.type_ids is None for e in rows)
            else _flat([e.type_ids or [0] * len(e.token_ids) for e in rows], len(self._token_ids))
        )
        self._num_truncated = _ints([e.num_truncated for e in rows])
        self._num_truncated_query = _ints([e.num_truncated_query for e in rows])
        self._num_prompt_tokens = _ints([e.num_prompt_tokens for e in rows])
        self._offsets = [e.offsets for e in rows] if any(e.offsets is not None for e in rows) else None

    @classmethod
    def whole(cls, token_ids: SmallInts, lens: SmallInts, num_prompt_tokens: int) -> EncodedRows:
        """Texts of which nothing was cut, one after the other in one array.

        Args:
            token_ids: of all texts.
            lens: tokens of each.
            num_prompt_tokens: see Encoded; the same for all.
        """
        made = cls(())
        made._token_ids, made._lens, made._attended = token_ids, lens, lens
        made._starts = np.cumsum(lens, dtype=np.int64) - lens
        made._num_truncated = made._num_truncated_query = np.zeros_like(lens)
        made._num_prompt_tokens = np.full_like(lens, num_prompt_tokens)
        return made

    def without(self, rows: Positions, starts: Positions, ends: Positions) -> EncodedRows:
        """The same texts, some of them without the tokens from a start to an end.

        Args:
            rows: which texts; each once.
            starts: of what is dropped, counted in its text.
            ends: likewise.
        """
        edges = np.zeros(len(self._token_ids) + 1, dtype=np.int8)
        edges[self._starts[rows] + starts] += 1
        edges[self._starts[rows] + ends] -= 1
        dropped = (ends - starts).astype(np.int32)
        lens, prompt_tokens = self._lens.copy(), self._num_prompt_tokens.copy()
        lens[rows] -= dropped
        prompt_tokens[rows] = np.minimum(prompt_tokens[rows], starts) + np.maximum(
            prompt_tokens[rows] - ends, 0
        )
        made = self.whole(self._token_ids[np.cumsum(edges[:-1], dtype=np.int8) == 0], lens, 0)
        made._num_prompt_tokens = prompt_tokens
        made._num_truncated = self._num_truncated.copy()
        made._num_truncated[rows] += dropped
        return made

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Place of each prompt's first token among all."""
        return self._starts

    @classmethod
    def concatenate(cls, parts: Sequence[EncodedRows]) -> EncodedRows:
        """All prompts of the parts, in order."""
        if len(parts) == 1:
            return parts[0]
        made = cls(())
        for name in (
            "_lens",
            "_token_ids",
            "_attended",
            "_num_truncated",
            "_num_truncated_query",
            "_num_prompt_tokens",
        ):
            setattr(made, name, np.concatenate([getattr(part, name) for part in parts] or [_NONE]))
        made._starts = np.cumsum(made._lens, dtype=np.int64) - made._lens
        if all(part._attended is part._lens for part in parts):
            made._attended = made._lens
        if any(part._type_ids is not None for part in parts):
            made._type_ids = np.concatenate(
                [
                    np.zeros(len(part._token_ids), dtype=np.int32)
                    if part._type_ids is None
                    else part._type_ids
                    for part in parts
                ]
            )
        if any(part._offsets is not None for part in parts):
            made._offsets = list(chain.from_iterable(part._offsets or [None] * len(part) for part in parts))
        return made

    @property
    def num_tokens(self) -> SmallInts:
        """Tokens of each prompt, int32 (num_prompts,)."""
        return self._lens

    def __len__(self) -> int:
        return len(self._lens)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> list[Encoded]: ...
    def __getitem__(self, index: int | slice) -> Encoded | list[Encoded]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = int(self._starts[index])
        end = start + int(self._lens[index])
        attended = int(self._attended[index])
        type_ids = [] if self._type_ids is None else self._type_ids[start:end].tolist()
        return Encoded(
            token_ids=self._token_ids[start:end].tolist(),
            num_truncated=int(self._num_truncated[index]),
            type_ids=type_ids if any(type_ids) else None,
            offsets=None if self._offsets is None else self._offsets[index],
            num_prompt_tokens=int(self._num_prompt_tokens[index]),
            num_attended=None if attended == end - start else attended,
            num_truncated_query=int(self._num_truncated_query[index]),
        )

    def __iter__(self) -> Iterator[Encoded]:
        return map(self.__getitem__, range(len(self)))

    def batch(self, positions: Positions, pad_token_id: int, side: Side) -> TokenBatch:
        """Gather prompts into padded rows.

        Args:
            positions: which prompts, at least one.
            pad_token_id: fills the shorter rows.
            side: where the filling goes.
        """
        lens = self._lens[positions][:, None]
        longest = int(lens.max())
        # place of each cell in its own prompt: (batch, longest), negative or too large for padding
        places = np.arange(longest, dtype=np.int64)[None, :]
        if side == "left":
            places = places - (longest - lens)
            padding = places < 0
        else:
            padding = places >= lens
        cells = self._starts[positions][:, None] + places
        return TokenBatch(
            input_ids=_gather(self._token_ids, cells, padding, pad_token_id),
            attention_mask=(
                ~padding
                if self._attended is self._lens
                else ~padding & (places < self._attended[positions][:, None])
            ).astype(np.int64),
            type_ids=None if self._type_ids is None else _gather(self._type_ids, cells, padding, 0),
        )


def batch_of_one(encoded: Encoded) -> TokenBatch:
    """A single prompt without padding."""
    count = len(encoded.token_ids)
    attention_mask = np.ones((1, count), dtype=np.int64)
    if encoded.num_attended is not None:
        attention_mask[0, encoded.num_attended :] = 0
    return TokenBatch(
        input_ids=np.array([encoded.token_ids], dtype=np.int64),
        attention_mask=attention_mask,
        type_ids=None if encoded.type_ids is None else np.array([encoded.type_ids], dtype=np.int64),
    )


def widened(batch: TokenBatch, more: int, pad_token_id: int, side: Side) -> TokenBatch:
    """The batch with so many more columns of padding."""
    if more == 0:
        return batch
    columns = ((0, 0), (0, more) if side == "right" else (more, 0))
    return TokenBatch(
        input_ids=np.pad(batch.input_ids, columns, constant_values=pad_token_id),
        attention_mask=np.pad(batch.attention_mask, columns),
        type_ids=None if batch.type_ids is None else np.pad(batch.type_ids, columns),
    )


_NONE: SmallInts = np.zeros(0, dtype=np.int32)


def _ints(values: Sequence[int]) -> SmallInts:
    return np.array(values, dtype=np.int32)


def _flat(rows: Sequence[Sequence[int]], count: int) -> SmallInts:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=count)


def _gather(values: SmallInts, cells: Positions, padding: npt.NDArray[np.bool_], fill: int) -> IntArray:
    """Values at the cells, and `fill` in padding, whose cells may lie outside."""
    made = values.take(cells, mode="clip").astype(np.int64)
    np.copyto(made, fill, where=padding)
    return made
