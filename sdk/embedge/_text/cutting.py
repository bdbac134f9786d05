"""Which tokens of a prompt or pair that is too long have to go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from embedge._text.padding import SmallInts
from embedge._text.tokens import Encoded
from embedge.errors import ParamsError, PromptError
from embedge.types import PairTruncation, Side

if TYPE_CHECKING:
    from tokenizers import Encoding


class Truncation(msgspec.Struct, frozen=True, kw_only=True):
    """What a model does with prompts that are too long for it.

    A `limit` is a truncate_prompt_tokens: None refuses what is longer than max_seq_len, -1 cuts to it.

    Attributes:
        max_seq_len: most tokens of a prompt, specials included.
        prefix_ids, suffix_ids: special tokens around a text, which stay.
        side: which side goes where the limit is -1.
        puts_back: `suffix_ids` are what a template ends in: they replace the last tokens of a prompt that fills its
            room, even where the template's end merged with the text before it.
        segments: a pair keeps its segment ids.
    """

    max_seq_len: int
    prefix_ids: list[int]
    suffix_ids: list[int]
    side: Side
    puts_back: bool = False
    segments: bool = True

    def check(self, limit: int | None) -> None:
        """Refuse a limit that this model cannot serve.

        Raises:
            ParamsError: 0, below -1, above max_seq_len, or too few for the special tokens.
        """
        specials = len(self.prefix_ids) + len(self.suffix_ids)
        fewest = max(1, specials)
        if limit is not None and limit != -1 and not fewest <= limit <= self.max_seq_len:
            raise ParamsError(
                f"truncate_prompt_tokens={limit} is out of range; expected None, -1, or {fewest} to "
                f"{self.max_seq_len}, of which {specials} are special tokens"
            )

    def room(self, limit: int | None) -> int:
        """Tokens that a prompt may have."""
        return self.max_seq_len if limit is None or limit == -1 else limit

    def num_specials(self, token_ids: list[int] | SmallInts) -> tuple[int, int]:
        """How many of the tokens at the start and at the end are the special ones; 0 where they are others."""
        first, last = len(self.prefix_ids), len(self.suffix_ids)
        prefix = first if list(token_ids[:first]) == self.prefix_ids else 0
        suffix = last if list(token_ids[len(token_ids) - last :]) == self.suffix_ids else 0
        return prefix, suffix

    def dropped(
        self, token_ids: list[int] | SmallInts, limit: int | None, side: Side | None, index: int
    ) -> tuple[int, int]:
        """Start and end of what has to go from a prompt that is too long.

        Args:
            token_ids: of the prompt.
            limit: see above.
            side: which side goes; None: the left where a number is asked for, else the model's.
            index: of the prompt, for the error.

        Raises:
            PromptError: limit is None.
        """
        count, room = len(token_ids), self.room(limit)
        if limit is None:
            raise too_long(f"prompt {index}", f"{count} tokens", room, index)
        from_side = self.side_of(limit, side)
        return dropped_tokens(count, room, *self.num_specials(token_ids), from_side)

    def side_of(self, limit: int | None, side: Side | None) -> Side:
        """The side that goes; arguments are those of `dropped`."""
        return side or (self.side if limit is None or limit == -1 else "left")

    def fit(self, whole: Encoded, limit: int | None, side: Side | None, index: int) -> Encoded:
        """A prompt, cut if it is too long; arguments and errors are those of `dropped`."""
        token_ids, offsets, num_prompt_tokens = whole.token_ids, whole.offsets, whole.num_prompt_tokens
        room = self.room(limit)
        if self.puts_back and len(token_ids) >= room:
            token_ids = [*token_ids[: len(token_ids) - len(self.suffix_ids)], *self.suffix_ids]
        if len(token_ids) <= room:
            return (
                whole if token_ids is whole.token_ids else msgspec.structs.replace(whole, token_ids=token_ids)
            )
        start, end = self.dropped(token_ids, limit, side, index)
        return Encoded(
            token_ids=token_ids[:start] + token_ids[end:],
            offsets=None if offsets is None else offsets[:start] + offsets[end:],
            num_truncated=end - start,
            num_prompt_tokens=min(num_prompt_tokens, start) + max(0, num_prompt_tokens - end),
        )

    def fit_pair(
        self, encoding: Encoding, limit: int | None, truncate: PairTruncation, what: str, index: int
    ) -> Encoded:
        """A pair, cut if it is too long.

        Args:
            encoding: as the tokenizer gives it.
            limit: see above.
            truncate: which side gives way.
            what: how an error calls it.
            index: of the pair.

        Raises:
            PromptError: it is too long and limit is None, or its query leaves no room for the document.
        """
        token_ids, type_ids, sides = encoding.ids, encoding.type_ids, encoding.sequence_ids
        room = self.room(limit)
        dropped = (0, 0)
        if len(token_ids) > room:
            counts = sides.count(0), sides.count(1)
            specials = len(token_ids) - sum(counts)
            if limit is None:
                alone = f", and its query alone has {counts[0]}" if counts[0] + specials >= room else ""
                raise too_long(what, f"{len(token_ids)} tokens{alone}", room, index)
            kept = kept_tokens(counts, room - specials, truncate)
            if min(kept) < 0 or (truncate == "document" and kept[1] == 0):
                raise PromptError(
                    f"{what}: its query alone has {counts[0]} tokens, and {specials} special tokens come on top; "
                    f"the limit is {room}. Shorten the query, or use truncate='longest_first'.",
                    index=index,
                )
            dropped = counts[0] - kept[0], counts[1] - kept[1]
            positions = kept_positions(sides, kept, self.side)
            token_ids = [token_ids[i] for i in positions]
            type_ids = [type_ids[i] for i in positions]
        return Encoded(
            token_ids=token_ids,
            type_ids=type_ids if self.segments and any(type_ids) else None,
            num_truncated=sum(dropped),
            num_truncated_query=dropped[0],
        )


def dropped_tokens(count: int, room: int, prefix: int, suffix: int, side: Side) -> tuple[int, int]:
    """Start and end of the tokens that go from a text.

    Args:
        count: its tokens.
        room: how many may stay.
        prefix: special tokens at the start, which stay.
        suffix: likewise at the end.
        side: from which the others go.
    """
    keep = max(0, room - prefix - suffix)
    return (prefix, count - suffix - keep) if side == "left" else (prefix + keep, count - suffix)


def kept_tokens(counts: tuple[int, int], room: int, truncate: PairTruncation) -> tuple[int, int]:
    """Tokens that stay of a pair's two sides.

    Args:
        counts: tokens of each side, specials apart.
        room: for both together.
        truncate: which side gives way.
    """
    query, document = counts
    if truncate == "document":
        return query, room - query
    # the tokenizers package's LongestFirst: the shorter side stays whole while the longer one can give way
    shorter, longer = min(counts), max(counts)
    longer = max(shorter, room - shorter) if shorter <= room else shorter
    if shorter + longer > room:
        shorter = room // 2
        longer = shorter + room % 2
    return (longer, shorter) if query > document else (shorter, longer)


def kept_positions(sides: Sequence[int | None], kept: tuple[int, int], side: Side) -> list[int]:
    """Positions of a pair's tokens that stay: specials, and the first or last ones of each text.

    Args:
        sides: which text each token is of; None for specials.
        kept: tokens that stay of each text.
        side: from which the others go.
    """
    # how many tokens of each text are passed over before the first that stays
    skipped = [sides.count(text) - kept[text] if side == "left" else 0 for text in (0, 1)]
    seen = [0, 0]
    positions = []
    for position, text in enumerate(sides):
        if text is None:
            positions.append(position)
            continue
        seen[text] += 1
        if 0 < seen[text] - skipped[text] <= kept[text]:
            positions.append(position)
    return positions


def too_long(what: str, size: str, limit: int, index: int) -> PromptError:
    """The error for a prompt or pair that is longer than the model takes."""
    return PromptError(
        f"{what} has {size}; the model's limit is {limit}. "
        "Pass truncate_prompt_tokens=-1 to cut it to the limit, or shorten the text.",
        index=index,
    )
