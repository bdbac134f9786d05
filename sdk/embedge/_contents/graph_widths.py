"""How many numbers a run of a graph holds at once for each token, as far as its operators and weights tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from embedge._contents.graph_ranks import Node

_IDS = 2
"""An int64 counts as two numbers."""
_PRODUCTS = frozenset({"Gemm", "FusedGemm", "QGemm", "GemmFloat8"})
_TABLES = frozenset({"Gather", "GatherBlockQuantized"})
_COPYING = frozenset({"MultiHeadAttention", "Attention", "GroupQueryAttention", "QAttention"})
"""They hold their queries, keys and values once more, each head's apart."""
_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Their result is their input, under another shape."""
_GROWING = frozenset({"Expand", "Tile"})


def numbers_per_token(
    nodes: Sequence[Node], weights: Mapping[str, Sequence[int]], outputs: Collection[str]
) -> int:
    """The most numbers that are alive at once, each of four bytes, for one token of a batch.

    What grows with the square of a text's length is left out: the scores of attention.

    Args:
        nodes: in the graph's order, which is about onnxruntime's.
        weights: dimensions of what is constant, by name.
        outputs: of the graph; they stay, and the largest is copied at the end.
    """
    root: dict[str, str] = {}
    last_use: dict[str, int] = {}
    for at, node in enumerate(nodes):
        if node.operator in _VIEWS and node.inputs:
            root.update(dict.fromkeys(node.outputs, root.get(node.inputs[0], node.inputs[0])))
        last_use.update({root.get(name, name): at for name in node.inputs})
    kept = {root.get(name, name) for name in outputs}
    widths: dict[str, int] = {}
    alive: dict[str, int] = {}
    most = widest = 0
    for at, node in enumerate(nodes):
        width = _width(node, widths, weights, widest)
        widest = max(widest, width)
        widths.update(dict.fromkeys(node.outputs, width))
        alive.update({name: width for name in node.outputs if name not in root})
        given = [name for name in node.inputs if name and name not in weights]
        copies = sum(widths.get(name, _IDS) for name in given[:3]) if node.operator in _COPYING else 0
        most = max(most, sum(alive.values()) + copies)
        for name in {root.get(each, each) for each in (*given, *node.outputs)}:
            if last_use.get(name, at) <= at and name not in kept:
                alive.pop(name, None)
    return most + max((widths.get(name, 0) for name in outputs), default=0)


def _width(node: Node, widths: Mapping[str, int], weights: Mapping[str, Sequence[int]], widest: int) -> int:
    """Numbers per token of each output of a node."""
    operator = node.operator
    given = [widths.get(name, _IDS) for name in node.inputs if name and name not in weights]
    constant = [weights[name] for name in node.inputs if name in weights]
    matrices = [dims for dims in constant if len(dims) in (2, 3) and len(dims) * min(dims) > 3]
    if operator == "Shape":
        return 0
    if operator in _TABLES and matrices:
        return int(matrices[0][-1])
    if operator in _GROWING:
        return max([widest, *given])
    if operator == "Concat":
        return sum(given)
    if operator == "Split":
        return -(-max(given, default=0) // max(1, len(node.outputs)))
    if "MatMul" in operator and matrices:
        # MatMulNBits states (out, blocks, bytes), all others (in, out)
        return int(matrices[0][0] if len(matrices[0]) == 3 else matrices[0][1])
    if operator in _PRODUCTS and matrices:
        return int(max(matrices[0]))
    return max([*given, *(int(dims[-1]) for dims in constant if dims)], default=0)
