"""Nodes around a product that belong to it: the addition of its bias, and what turns a shared table round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def turned_tables(
    graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto], uses: Counter[str]
) -> dict[str, tuple[int, str]]:
    """Transposed tables that one product reads, and whose table only look-ups read besides.

    Args:
        graph: the graph.
        weights: its initialisers.
        uses: how often each name is read.

    Returns:
        Position of the Transpose node and the table's name, by the transposed matrix's.
    """
    gathered = Counter(node.input[0] for node in graph.node if node.op_type == "Gather")
    found = {}
    for position, node in enumerate(graph.node):
        if node.op_type != "Transpose" or node.input[0] not in weights:
            continue
        axes = [list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"]
        alone = uses[node.input[0]] == gathered[node.input[0]] + 1 and uses[node.output[0]] == 1
        if axes == [[1, 0]] and alone:
            found[node.output[0]] = (position, node.input[0])
    return found


def added_rows(
    graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto], uses: Counter[str]
) -> dict[str, tuple[int, str]]:
    """Add nodes that add a stored row to something that nothing else reads: position and row, by that something."""
    kept = {value.name for value in graph.output}
    found = {}
    for position, node in enumerate(graph.node):
        if node.op_type != "Add" or node.domain:
            continue
        for rows, bias in (node.input, reversed(node.input)):
            tensor = weights.get(bias)
            stored = tensor is not None and tensor.data_type == 1 and len(tensor.dims) == 1
            if stored and uses[rows] == 1 and rows not in kept and rows not in weights:
                found[rows] = (position, bias)
    return found
