"""Token ids of prompts: one at a time, or many in a few arrays from which padded batches are gathered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._sequence import MadeOnDemand
from embedge._text.padding import Indices, SmallInts, TokenBatch, gathered
from embedge.types import Side


class Encoded(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """One prompt or pair as token ids.

    Attributes:
        token_ids: specials included.
        num_truncated: tokens dropped, on both sides of a pair together; of a very long text at least so many.
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


class TokenTable(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Prompts column by column; each array is int32, with one entry per prompt unless something else is said.

    Attributes:
        token_ids: of all prompts, one after the other: (tokens of all prompts,).
        num_tokens: of each prompt.
        num_prompt_tokens, num_truncated, num_truncated_query: see Encoded.
        num_attended: see Encoded; None where all tokens of all prompts are attended to.
        type_ids: see Encoded, of all prompts as token_ids are; None where all are 0.
        offsets: see Encoded, a list for each prompt; None where there are none.
    """

    token_ids: SmallInts
    num_tokens: SmallInts
    num_prompt_tokens: SmallInts
    num_truncated: SmallInts
    num_truncated_query: SmallInts
    num_attended: SmallInts | None = None
    type_ids: SmallInts | None = None
    offsets: list[list[tuple[int, int]] | None] | None = None


class EncodedRows(MadeOnDemand[Encoded]):
    """Many prompts in a few arrays: 4 bytes per token instead of an int object, and no loop over a batch's tokens.

    `of`, `whole` and `concatenate` make them.

    Args:
        table: the prompts.
    """

    _noun = "prompts"

    def __init__(self, table: TokenTable) -> None:
        self._table = table
        self._starts = np.cumsum(table.num_tokens, dtype=np.int64) - table.num_tokens

    @classmethod
    def of(cls, prompts: Sequence[Encoded]) -> EncodedRows:
        """Prompts that were encoded one by one."""
        num_tokens = _ints([len(e.token_ids) for e in prompts])
        total = int(num_tokens.sum())
        num_attended = type_ids = offsets = None
        if any(e.num_attended is not None for e in prompts):
            num_attended = _ints(
                [len(e.token_ids) if e.num_attended is None else e.num_attended for e in prompts]
            )
        if any(e.type_ids is not None for e in prompts):
            type_ids = _flat([e.type_ids or [0] * len(e.token_ids) for e in prompts], total)
        if any(e.offsets is not None for e in prompts):
            offsets = [e.offsets for e in prompts]
        return cls(
            TokenTable(
                token_ids=_flat([e.token_ids for e in prompts], total),
                num_tokens=num_tokens,
                num_prompt_tokens=_ints([e.num_prompt_tokens for e in prompts]),
                num_truncated=_ints([e.num_truncated for e in prompts]),
                num_truncated_query=_ints([e.num_truncated_query for e in prompts]),
                num_attended=num_attended,
                type_ids=type_ids,
                offsets=offsets,
            )
        )

    @classmethod
    def whole(cls, token_ids: SmallInts, num_tokens: SmallInts, num_prompt_tokens: int) -> EncodedRows:
        """Texts of which nothing was cut, one after the other in one array.

        Args:
            token_ids: of all texts.
            num_tokens: of each.
            num_prompt_tokens: see Encoded; the same for all.
        """
        none = np.zeros_like(num_tokens)
        return cls(
            TokenTable(
                token_ids=token_ids,
                num_tokens=num_tokens,
                num_prompt_tokens=np.full_like(num_tokens, num_prompt_tokens),
                num_truncated=none,
                num_truncated_query=none,
            )
        )

    @classmethod
    def concatenate(cls, parts: Sequence[EncodedRows]) -> EncodedRows:
        """All prompts of the parts, in order."""
        if len(parts) == 1:
            return parts[0]
        tables = [part._table for part in parts]
        num_attended = type_ids = offsets = None
        if any(t.num_attended is not None for t in tables):
            num_attended = _joined(
                [t.num_tokens if t.num_attended is None else t.num_attended for t in tables]
            )
        if any(t.type_ids is not None for t in tables):
            type_ids = _joined(
                [np.zeros_like(t.token_ids) if t.type_ids is None else t.type_ids for t in tables]
            )
        if any(t.offsets is not None for t in tables):
            offsets = [each for t in tables for each in t.offsets or [None] * len(t.num_tokens)]
        return cls(
            TokenTable(
                token_ids=_joined([t.token_ids for t in tables]),
                num_tokens=_joined([t.num_tokens for t in tables]),
                num_prompt_tokens=_joined([t.num_prompt_tokens for t in tables]),
                num_truncated=_joined([t.num_truncated for t in tables]),
                num_truncated_query=_joined([t.num_truncated_query for t in tables]),
                num_attended=num_attended,
                type_ids=type_ids,
                offsets=offsets,
            )
        )

    def without(self, rows: Indices, starts: Indices, ends: Indices) -> EncodedRows:
        """The same texts, some of them without the tokens from a start to an end.

        Args:
            rows: which texts; each once.
            starts: of what is dropped, counted in its text.
            ends: likewise.
        """
        table = self._table
        assert table.type_ids is None
        assert table.offsets is None
        assert table.num_attended is None
        edges = np.zeros(len(table.token_ids) + 1, dtype=np.int8)
        edges[self._starts[rows] + starts] += 1
        edges[self._starts[rows] + ends] -= 1
        dropped = (ends - starts).astype(np.int32)
        num_tokens, num_truncated = table.num_tokens.copy(), table.num_truncated.copy()
        num_tokens[rows] -= dropped
        num_truncated[rows] += dropped
        leading = table.num_prompt_tokens.copy()
        leading[rows] = np.minimum(leading[rows], starts) + np.maximum(leading[rows] - ends, 0)
        return EncodedRows(
            msgspec.structs.replace(
                table,
                token_ids=table.token_ids[np.cumsum(edges[:-1], dtype=np.int8) == 0],
                num_tokens=num_tokens,
                num_prompt_tokens=leading,
                num_truncated=num_truncated,
            )
        )

    def begin_with(self, lead: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Whether each prompt begins with some tokens; none does where `without` cannot take them off."""
        table, count = self._table, len(lead)
        if not (table.num_attended is None and table.type_ids is None and table.offsets is None):
            return np.zeros(len(self), dtype=bool)
        long = np.flatnonzero(table.num_tokens >= count)
        cells = self._starts[long][:, None] + np.arange(count)
        begins = np.zeros(len(self), dtype=bool)
        begins[long] = (table.token_ids[cells] == np.asarray(lead, dtype=np.int32)).all(axis=1)
        return begins

    def have_other(self, token_id: int, start: int) -> npt.NDArray[np.bool_]:
        """Whether each prompt has another token than one, from a place on."""
        table = self._table
        others = np.concatenate([[0], np.cumsum(table.token_ids != token_id)])
        ends = self._starts + table.num_tokens
        return others[ends] > others[np.minimum(self._starts + start, ends)]

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Index of each prompt's first token among the tokens of all."""
        return self._starts

    @property
    def num_tokens(self) -> SmallInts:
        """Tokens of each prompt, int32 (num_prompts,)."""
        return self._table.num_tokens

    def __len__(self) -> int:
        return len(self._starts)

    def _item(self, position: int) -> Encoded:
        table = self._table
        start = int(self._starts[position])
        end = start + int(table.num_tokens[position])
        attended = end - start if table.num_attended is None else int(table.num_attended[position])
        type_ids = [] if table.type_ids is None else table.type_ids[start:end].tolist()
        return Encoded(
            token_ids=table.token_ids[start:end].tolist(),
            num_truncated=int(table.num_truncated[position]),
            type_ids=type_ids if any(type_ids) else None,
            offsets=None if table.offsets is None else table.offsets[position],
            num_prompt_tokens=int(table.num_prompt_tokens[position]),
            num_attended=None if attended == end - start else attended,
            num_truncated_query=int(table.num_truncated_query[position]),
        )

    def batch(self, positions: Indices, pad_token_id: int, side: Side) -> TokenBatch:
        """Gather prompts into padded rows.

        Args:
            positions: which prompts, at least one.
            pad_token_id: fills the shorter rows.
            side: where the filling goes.
        """
        table = self._table
        counts = table.num_tokens[positions][:, None]
        longest = int(counts.max())
        # what each cell holds, counted in its own prompt: (batch, longest), negative or too large for padding
        within = np.arange(longest, dtype=np.int64)[None, :]
        if side == "left":
            within = within - (longest - counts)
            padding = within < 0
        else:
            padding = within >= counts
        cells = self._starts[positions][:, None] + within
        attended = ~padding
        if table.num_attended is not None:
            attended &= within < table.num_attended[positions][:, None]
        return TokenBatch(
            input_ids=gathered(table.token_ids, cells, padding, pad_token_id),
            attention_mask=attended.astype(np.int64),
            type_ids=None if table.type_ids is None else gathered(table.type_ids, cells, padding, 0),
        )


def batch_of_one(encoded: Encoded) -> TokenBatch:
    """A single prompt without padding."""
    count = len(encoded.token_ids)
    attention_mask = np.empty((1, count), dtype=np.int64)
    attention_mask.fill(1)
    if encoded.num_attended is not None:
        attention_mask[0, encoded.num_attended :] = 0
    return TokenBatch(
        input_ids=np.array([encoded.token_ids], dtype=np.int64),
        attention_mask=attention_mask,
        type_ids=None if encoded.type_ids is None else np.array([encoded.type_ids], dtype=np.int64),
    )


def _ints(values: Sequence[int]) -> SmallInts:
    return np.array(values, dtype=np.int32)


def _flat(rows: Sequence[Sequence[int]], count: int) -> SmallInts:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=count)


def _joined(parts: Sequence[SmallInts]) -> SmallInts:
    return np.concatenate(parts) if parts else _ints([])
