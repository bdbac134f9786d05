"""Whether a graph holds the scores of whole sequences, which bounds the length that it can take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_BLOCKWISE = "MultiHeadAttention"
_QKV_AND_BIAS = 4
_HOLDS_SCORES = ("Softmax", "Attention", "GroupQueryAttention")


def score_heads(model: onnx.ModelProto, num_heads: int | None) -> int | None:
    """Heads whose scores (seq_len x seq_len each) a run on the CPU holds at once, or None where it works in blocks.

    onnxruntime's MultiHeadAttention works in blocks where it has neither mask nor bias of the scores and is not causal.
    12 heads at 4,096 tokens then take 0.1 times the size of their scores, and 1.4 times with a bias; as separate
    operators they take 2.9 times.

    Args:
        model: the graph.
        num_heads: of each layer; None where there are none, or it is not known.
    """
    for node in model.graph.node:
        if node.op_type in _HOLDS_SCORES:
            return num_heads
        if node.op_type == _BLOCKWISE and (
            any(node.input[_QKV_AND_BIAS:]) or any(a.name == "unidirectional" and a.i for a in node.attribute)
        ):
            return num_heads
    return None


def attention_block(model: onnx.ModelProto, hidden_size: int, num_heads: int | None) -> int | None:
    """Rows that onnxruntime's attention in blocks computes at a time on the CPU, or None where there is none.

    A block has as many rows as a head has components of queries and values together; a query has one more, which
    carries the mask.
    """
    if num_heads is None or score_heads(model, num_heads) is not None:
        return None
    blockwise = any(node.op_type == _BLOCKWISE for node in model.graph.node)
    return 2 * (hidden_size // num_heads) + 1 if blockwise else None
