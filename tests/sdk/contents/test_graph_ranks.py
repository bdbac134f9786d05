"""Ranks of a graph's tensors, against what onnx infers."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper, shape_inference

from embedge._contents.graph_ranks import MOST_RANK, Node, too_many_dimensions

RANKS = {"x": 6, "i": 6, "depth": 0, "values": 1}
CASES = [
    ("Einsum", ["x", "x"], 13, {"equation": "abcdef,ghijkl->abcdefg"}),
    ("Einsum", ["x", "x"], 13, {"equation": "abcdef, ghijal"}),
    ("Einsum", ["x", "x"], 13, {"equation": "...ab,...cd->...abcd"}),
    ("Einsum", ["x", "x"], 13, {"equation": "...ab,...cd"}),
    ("OneHot", ["i", "depth", "values"], 13, {}),
    ("Unsqueeze", ["x"], 11, {"axes": [0, 1]}),
]


@pytest.mark.parametrize(("operator", "inputs", "opset", "attributes"), CASES)
def test_an_operator_that_adds_dimensions_is_seen_as_onnx_infers_it(
    operator, inputs, opset, attributes
) -> None:
    types = {"i": TensorProto.INT64, "depth": TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], **attributes)],
        "g",
        [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), [2] * RANKS[name])
            for name in dict.fromkeys(inputs)
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph.output[0].type.tensor_type.shape
    rank = len(inferred.dim)
    assert rank > MOST_RANK
    axes = attributes.get("axes")
    node = Node(
        operator, inputs, ["y"], None if axes is None else len(axes), True, attributes.get("equation", "")
    )
    said = too_many_dimensions([node], RANKS, {})
    assert said == f"has an operator {operator!r} whose result has {rank} dimensions"
