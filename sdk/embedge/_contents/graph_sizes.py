"""Operators that make large tensors of small ones, and how large where their sizes are constants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from embedge._contents.wire import Message, numbers

_MOST_ELEMENTS = 1 << 24
_MOST_NUMBERS = 16
_INT64 = 7
GROWING = frozenset(
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


def largest(makers: Sequence[tuple[str, Sequence[str]]], known: Mapping[str, list[int]]) -> str | None:
    """The first operator that makes a tensor too large for any graph of an export, in words.

    Args:
        makers: operators of GROWING and their inputs.
        known: values of the graph's small constants.
    """
    for operator, inputs in makers:
        for name in inputs:
            size = math.prod(max(1, abs(number)) for number in known.get(name, ()))
            if size > _MOST_ELEMENTS:
                return f"has an operator {operator!r} that makes {size:.1e} elements of a constant"
    return None
