"""Loops of a graph: those that an export writes run a stored number of rounds, none of which sees another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

MOST_ROUNDS = 4096
"""Blocks of queries of a batch's long texts."""
_ROUNDS_AND_CONDITION = 2


class Loop(msgspec.Struct, frozen=True):
    """What bounds a loop.

    Attributes:
        inputs: names of its number of rounds, of its condition, and of what one round hands to the next.
        within: it is part of another loop.
    """

    inputs: Sequence[str]
    within: bool


def unbounded(
    loops: Sequence[Loop], stored: Collection[str], named: Mapping[str, int], known: Mapping[str, list[int]]
) -> str | None:
    """The first loop that may run for ever, or hold more with every round, in words.

    Args:
        loops: of the graph.
        stored: names of the graph's weights.
        named: how many tensors have each name, those within operators included: one name may stand for several.
        known: values of the graph's small constants.
    """
    for loop in loops:
        if loop.within:
            return "has a loop within a loop"
        if len(loop.inputs) > _ROUNDS_AND_CONDITION:
            return "has a loop whose rounds hand something on"
        rounds = loop.inputs[0] if loop.inputs else ""
        if rounds not in stored or named.get(rounds) != 1 or len(known.get(rounds, ())) != 1:
            return "has a loop whose number of rounds is not stored"
        if known[rounds][0] > MOST_ROUNDS:
            return f"has a loop of {known[rounds][0]:,} rounds"
    return None
