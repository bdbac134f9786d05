"""What the finished graph offers: names its outputs and attaches the checkpoint's heads to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedge.manifest import GraphSpec
from embedge.types import FloatArray
from embedge_export.graph.pooling_nodes import PoolingNodes
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.torch_model import load_dense

if TYPE_CHECKING:
    import onnx

HIDDEN = "last_hidden_state"
LOGITS = "logits"
POOLED = "sentence_embedding"
TOKENS = "token_embeddings"
_BATCH, _SEQ = "batch_size", "sequence_length"


def attach_heads(graph: onnx.ModelProto, checkpoint: Checkpoint, model: Any) -> GraphSpec:
    """Append pooling, modules and classification heads to a graph, and say what is where.

    Args:
        graph: gives last_hidden_state (batch, seq_len, hidden_size) or logits first; changed in place.
        checkpoint: its facts.
        model: the loaded checkpoint, for heads that were not traced; None for static embeddings.

    Returns:
        Names of inputs and outputs for the manifest.
    """
    inputs = tuple(value.name for value in graph.graph.input)
    if checkpoint.kind == "sparse":
        return _attach_splade(graph, checkpoint, inputs)
    if checkpoint.head is not None:
        hidden = HIDDEN if traces_base(checkpoint) else None
        if hidden:
            _attach_linear(graph, checkpoint, model)
        if checkpoint.kind in ("token_classifier", "reward"):
            return GraphSpec(inputs=inputs, hidden=hidden, token=LOGITS)
        return GraphSpec(inputs=inputs, hidden=hidden, pooled=LOGITS)
    if checkpoint.kind == "late_interaction":
        head = PoolingNodes(graph)
        return GraphSpec(inputs=inputs, hidden=HIDDEN, token=_attach_modules(head, checkpoint, TOKENS))
    return _attach_embedding(graph, checkpoint, inputs)


def traces_base(checkpoint: Checkpoint) -> bool:
    """Whether the head of a classifier is left out of the trace and attached afterwards.

    Decoders read their last token where input_ids is not the padding id, which a text may hold as well; here it is
    the attention mask that decides.
    """
    return checkpoint.head is not None and checkpoint.is_decoder


def linear_head(model: Any, checkpoint: Checkpoint) -> tuple[FloatArray, FloatArray | None]:
    """Weight (num_labels, hidden_size) and bias of a decoder's head.

    A causal reranker has one label: the difference of the two rows of its output embedding, or the single row.
    """
    if checkpoint.kind != "causal_reranker":
        layer = getattr(model, "score", None) or model.classifier
        bias = getattr(layer, "bias", None)
        return _array(layer.weight), None if bias is None else _array(bias)
    layer = model.get_output_embeddings()
    bias = getattr(layer, "bias", None)
    yes, *others = checkpoint.score_ids

    def difference(rows: FloatArray) -> FloatArray:
        return rows[yes : yes + 1] - rows[others[0] : others[0] + 1] if others else rows[yes : yes + 1]

    return difference(_array(layer.weight)), None if bias is None else difference(_array(bias))


def has_token_modules(checkpoint: Checkpoint) -> bool:
    """Whether the Dense modules fit single token rows: they do unless several poolings are concatenated."""
    return bool(checkpoint.dense) and checkpoint.dense[0].in_features == checkpoint.hidden_size


def _attach_embedding(graph: onnx.ModelProto, checkpoint: Checkpoint, inputs: tuple[str, ...]) -> GraphSpec:
    names = {name for node in graph.graph.node for name in node.output}
    head = PoolingNodes(graph, mask="pooling_mask" if "pooling_mask" in names else "attention_mask")
    modes = checkpoint.pooling.modes if checkpoint.pooling else ()
    rows = head.pool(HIDDEN, modes, output=None if checkpoint.dense else POOLED)
    for index, module in enumerate(checkpoint.dense):
        last = index == len(checkpoint.dense) - 1
        weight, bias = load_dense(module)
        rows = head.dense(rows, weight, bias, module.activation, output=POOLED if last else None)
    head.output(POOLED, [_BATCH, checkpoint.embedding_size or checkpoint.hidden_size])
    token = _attach_modules(head, checkpoint, TOKENS) if has_token_modules(checkpoint) else HIDDEN
    return GraphSpec(inputs=inputs, hidden=HIDDEN, pooled=POOLED, token=token)


def _attach_modules(head: PoolingNodes, checkpoint: Checkpoint, output: str) -> str:
    rows = HIDDEN
    for index, module in enumerate(checkpoint.dense):
        last = index == len(checkpoint.dense) - 1
        weight, bias = load_dense(module)
        rows = head.dense(rows, weight, bias, module.activation, output=output if last else None)
    if rows != HIDDEN:
        head.output(rows, [_BATCH, _SEQ, checkpoint.dense[-1].out_features])
    return rows


def _attach_splade(graph: onnx.ModelProto, checkpoint: Checkpoint, inputs: tuple[str, ...]) -> GraphSpec:
    head = PoolingNodes(graph)
    strategy = "sum" if checkpoint.splade_sum else "max"
    head.splade(LOGITS, strategy=strategy, twice=checkpoint.splade_twice, output=POOLED)
    del graph.graph.output[:]  # logits of every token: a run would carry them to no purpose
    head.output(POOLED, [_BATCH, checkpoint.vocab_size])
    return GraphSpec(inputs=inputs, pooled=POOLED)


def _attach_linear(graph: onnx.ModelProto, checkpoint: Checkpoint, model: Any) -> None:
    head = PoolingNodes(graph)
    weight, bias = linear_head(model, checkpoint)
    by_token = checkpoint.kind in ("token_classifier", "reward")
    rows = HIDDEN if by_token else head.pool(HIDDEN, ["LAST"])
    head.dense(rows, weight, bias, "Identity", output=LOGITS)
    head.output(LOGITS, [_BATCH, _SEQ, len(weight)] if by_token else [_BATCH, len(weight)])


def _array(tensor: Any) -> FloatArray:
    array: FloatArray = tensor.detach().float().numpy()
    return array
