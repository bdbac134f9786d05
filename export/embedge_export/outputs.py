"""What the finished graph offers: names its outputs and attaches the checkpoint's heads to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedge.manifest import GraphSpec
from embedge_export.heads import Head
from embedge_export.source import Checkpoint
from embedge_export.weights import load_dense

if TYPE_CHECKING:
    import onnx

HIDDEN = "last_hidden_state"
POOLED = "sentence_embedding"
TOKENS = "token_embeddings"
_BATCH, _SEQ = "batch_size", "sequence_length"


def attach_heads(graph: onnx.ModelProto, checkpoint: Checkpoint) -> GraphSpec:
    """Append pooling and modules to a graph of hidden states, and say what is where.

    Args:
        graph: gives last_hidden_state (batch, seq_len, hidden_size) first; changed in place.
        checkpoint: its facts.

    Returns:
        Names of inputs and outputs for the manifest.
    """
    inputs = tuple(value.name for value in graph.graph.input)
    return _attach_embedding(graph, checkpoint, inputs)


def _attach_embedding(graph: onnx.ModelProto, checkpoint: Checkpoint, inputs: tuple[str, ...]) -> GraphSpec:
    head = Head(graph)
    modes = checkpoint.pooling.modes if checkpoint.pooling else ()
    modules = [(*load_dense(module), module.activation) for module in checkpoint.dense]
    size = checkpoint.embedding_size or checkpoint.hidden_size
    rows = head.pool(HIDDEN, modes, output=None if modules else POOLED)
    for index, (weight, bias, activation) in enumerate(modules):
        last = index == len(modules) - 1
        rows = head.dense(rows, weight, bias, activation, output=POOLED if last else None)
    head.output(POOLED, [_BATCH, size])
    token = HIDDEN
    if modules and has_token_modules(checkpoint):
        token = TOKENS
        rows = HIDDEN
        for index, (weight, bias, activation) in enumerate(modules):
            last = index == len(modules) - 1
            rows = head.dense(rows, weight, bias, activation, output=TOKENS if last else None)
        head.output(TOKENS, [_BATCH, _SEQ, size])
    return GraphSpec(inputs=inputs, hidden=HIDDEN, pooled=POOLED, token=token)


def has_token_modules(checkpoint: Checkpoint) -> bool:
    """Whether the Dense modules fit single token rows: they do unless several poolings are concatenated."""
    return bool(checkpoint.dense) and checkpoint.dense[0].in_features == checkpoint.hidden_size
