"""Operators that make large tensors of small ones, and how large where their sizes are constants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from embedge._contents.graph_ranks import Node
from embedge._contents.wire import Message, numbers

_MOST_ELEMENTS = 1 << 22
"""Of all of them together; what an export makes of constants are masks and positions."""
_MOST_NUMBERS = 16
_INT64 = 7
_GROWING = frozenset(
    {
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "Pad",
        "Resize",
        "OneHot",
        "Upsample",
        "AffineGrid",
        "Col2Im",
    }
)


def small_integers(
    dtype: int, dims: Sequence[int], raw: Message | None, stated: list[Message | int]
) -> list[int] | None:
    """Values of a tensor that can be a shape, None of any other.

    Args:
        dtype: TensorProto.DataType.
        dims: its shape.
        raw: its bytes, where it states them.
        stated: its int64_data, where it states that.
    """
    if dtype != _INT64 or math.prod(dims) > _MOST_NUMBERS:
        return None
    if raw is not None:
        return [int.from_bytes(raw[at : at + 8], "little", signed=True) for at in range(0, len(raw), 8)]
    unsigned = [number for each in stated for number in numbers(each)]
    return [number - (1 << 64) if number >> 63 else number for number in unsigned]


def largest(nodes: Sequence[Node], known: Mapping[str, list[int]]) -> str | None:
    """The first operator with which too much is made of constants for any graph of an export, in words.

    Args:
        nodes: of the graph.
        known: values of the graph's small constants.
    """
    total = 0
    for node in nodes:
        if node.operator not in _GROWING:
            continue
        sizes = (
            math.prod(max(1, abs(number)) for number in known[name]) for name in node.inputs if name in known
        )
        total += max(sizes, default=0)
        if total > _MOST_ELEMENTS:
            return f"has an operator {node.operator!r} that makes {total:.1e} elements of a constant"
    return None
