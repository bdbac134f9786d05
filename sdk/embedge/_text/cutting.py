"""Which tokens of a prompt or pair that is too long have to go: pure functions of counts."""

from __future__ import annotations

from collections.abc import Sequence

from embedge.types import PairTruncation, Side


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


def kept_positions(sides: Sequence[int | None], kept: tuple[int, int]) -> list[int]:
    """Positions of a pair's tokens that stay: specials, and the first ones of each side.

    Args:
        sides: of each token; None for specials.
        kept: tokens that stay of each side.
    """
    seen = [0, 0]
    positions = []
    for position, side in enumerate(sides):
        if side is None:
            positions.append(position)
            continue
        seen[side] += 1
        if seen[side] <= kept[side]:
            positions.append(position)
    return positions
