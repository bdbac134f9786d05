"""The graph of static embeddings: a lookup, and a mask for the mean that the head takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedge.types import FloatArray

if TYPE_CHECKING:
    import onnx


def build_graph(table: FloatArray, opset: int, ignored_id: int | None) -> onnx.ModelProto:
    """A graph that looks token ids up.

    Args:
        table: (vocab_size, size).
        opset: version of the ONNX operator set.
        ignored_id: token that is left out of the mean, model2vec's unknown token.

    Returns:
        Inputs input_ids and attention_mask, output last_hidden_state; `pooling_mask` is there for the head.
    """
    from onnx import TensorProto, helper, numpy_helper

    axes = ["batch_size", "sequence_length"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, axes)
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*axes, table.shape[1]])
    nodes = [
        helper.make_node("Gather", ["embedding.weight", "input_ids"], ["last_hidden_state"], name="/Gather")
    ]
    tensors = [numpy_helper.from_array(table, "embedding.weight")]
    if ignored_id is not None:
        tensors.append(numpy_helper.from_array(np.array(ignored_id, dtype=np.int64), "ignored_id"))
        nodes += [
            helper.make_node("Equal", ["input_ids", "ignored_id"], ["is_ignored"], name="/Equal"),
            helper.make_node("Not", ["is_ignored"], ["is_kept"], name="/Not"),
            helper.make_node("Cast", ["is_kept"], ["kept"], name="/Cast", to=TensorProto.INT64),
            helper.make_node("Mul", ["attention_mask", "kept"], ["pooling_mask"], name="/Mul"),
        ]
    graph = helper.make_graph(nodes, "embedge", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
