"""Which graphs hold the scores of whole sequences."""

import pytest
from onnx import TensorProto, helper

from embedge_export.graph.attention import score_heads


def graph(*nodes):
    value = helper.make_tensor_value_info("q", TensorProto.FLOAT, ["b", "s", 8])
    return helper.make_model(helper.make_graph(list(nodes), "g", [value], [value]))


def attention(*inputs, **attributes):
    return helper.make_node(
        "MultiHeadAttention", list(inputs), ["o"], domain="com.microsoft", num_heads=2, **attributes
    )


@pytest.mark.parametrize(
    ("node", "heads"),
    [
        (attention("q", "k", "v"), None),
        (attention("q", "k", "v", "bias"), None),
        (attention("q", "k", "v", "", "", ""), None),
        (attention("q", "k", "v", "", "mask"), 12),
        (attention("q", "k", "v", "", "", "score_bias"), 12),
        (attention("q", "k", "v", unidirectional=1), 12),
        (helper.make_node("Softmax", ["q"], ["o"]), 12),
        (helper.make_node("MatMul", ["q", "k"], ["o"]), None),
    ],
)
def test_only_plain_attention_works_in_blocks(node, heads):
    assert score_heads(graph(node), 12) == heads
    assert score_heads(graph(helper.make_node("Relu", ["q"], ["k"]), node), None) is None
