"""How many dimensions the tensors of a graph have, as far as its operators tell: those of an export have few.

A chain of operators that each add a dimension multiplies what is held at every step, from inputs of any size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

MOST_RANK = 6
"""Attention in blocks has 5."""
_FIXED = {"Shape": 1, "Size": 0, "NonZero": 2, "Range": 1, "Gemm": 2, "Flatten": 2}
_UNKNOWN = frozenset({"If", "Loop", "Constant", "GatherND", "Col2Im", "SequenceAt", "ImageDecoder"})
_OF_SHAPE = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}
"""Which input is the shape of the result."""


class Node(msgspec.Struct, frozen=True):
    """What tells the rank of a node's outputs.

    Attributes:
        operator, inputs, outputs: names.
        num_axes: of its attribute "axes"; None where it has none.
        keepdims: its attribute.
        equation: likewise; "" where it has none.
    """

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    num_axes: int | None
    keepdims: bool
    equation: str


def too_many_dimensions(
    nodes: Sequence[Node], ranks: Mapping[str, int], known: Mapping[str, list[int]]
) -> str | None:
    """The first operator whose result has more dimensions than any of an export, in words.

    Args:
        nodes: in the graph's order.
        ranks: of inputs and weights, by name.
        known: values of the graph's small constants.
    """
    found: dict[str, int] = dict(ranks)
    for node in nodes:
        rank = _rank(node, found, known)
        if rank is None:
            continue
        if rank > MOST_RANK:
            return f"has an operator {node.operator!r} whose result has {rank} dimensions"
        found.update(dict.fromkeys(node.outputs, rank))
    return None


def _rank(node: Node, ranks: Mapping[str, int], known: Mapping[str, list[int]]) -> int | None:
    """Of a node's outputs; None where its operator does not tell."""
    operator = node.operator
    if operator in _UNKNOWN:
        return None
    if operator in _FIXED:
        return _FIXED[operator]
    if operator == "Einsum":
        return _einsum_rank(node, ranks)
    if operator in _OF_SHAPE:
        shape = node.inputs[_OF_SHAPE[operator]] if len(node.inputs) > _OF_SHAPE[operator] else ""
        length = len(known[shape]) if shape in known else None
        if operator != "Expand" or length is None:
            return length
        return max(length, ranks.get(node.inputs[0], 0))
    given = [ranks[name] for name in node.inputs if name in ranks]
    if not given:
        return None
    if operator == "Gather":
        indices = ranks.get(node.inputs[1]) if len(node.inputs) > 1 else None
        rows = ranks.get(node.inputs[0])
        return None if rows is None or indices is None else rows + indices - 1
    if operator == "Unsqueeze":
        return given[0] + _num_axes(node, known, otherwise=1)
    if operator == "Squeeze":
        return max(0, given[0] - _num_axes(node, known, otherwise=1))
    if operator == "OneHot":
        return given[0] + 1
    if (operator.startswith("Reduce") or operator in ("ArgMax", "ArgMin")) and not node.keepdims:
        one = operator.startswith("Arg")
        return max(0, given[0] - (1 if one else _num_axes(node, known, otherwise=given[0])))
    return max(given)


def _einsum_rank(node: Node, ranks: Mapping[str, int]) -> int:
    """One for each letter of the result, and for "..." what an operand has beside its own letters.

    An equation that states no result has the letters that come once, and "..." where an operand has it.
    """
    operands, arrow, result = node.equation.replace(" ", "").partition("->")
    if not arrow:
        letters = operands.replace(",", "").replace("...", "")
        result = "".join(letter for letter in letters if letters.count(letter) == 1)
        result += "..." if "..." in operands else ""
    beside = [
        ranks[name] - len(operand.replace("...", ""))
        for name, operand in zip(node.inputs, operands.split(","), strict=False)
        if "..." in operand and name in ranks
    ]
    return len(result.replace("...", "")) + (max(beside, default=0) if "..." in result else 0)


def _num_axes(node: Node, known: Mapping[str, list[int]], *, otherwise: int) -> int:
    if node.num_axes is not None:
        return node.num_axes
    axes = node.inputs[1] if len(node.inputs) > 1 else ""
    return len(known[axes]) if axes in known else otherwise
