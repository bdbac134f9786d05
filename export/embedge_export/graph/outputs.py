"""What the finished graph offers: names its outputs and attaches the checkpoint's heads to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedge.manifest import GraphSpec
from embedge.types import FloatArray
from embedge_export.graph.decoder_heads import stored_head
from embedge_export.graph.pooling_nodes import PoolingNodes
from embedge_export.source.causal_reranker import CausalReranker
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.embedder import Splade
from embedge_export.source.modules import Chain, Dense, LayerNorm, Module, Normalize, Pooling, row_size
from embedge_export.source.weights import LoadedWeights

if TYPE_CHECKING:
    import onnx

HIDDEN = "last_hidden_state"
LOGITS = "logits"
POOLED = "sentence_embedding"
TOKENS = "token_embeddings"
_BATCH, _SEQ = "batch_size", "sequence_length"


def attach_heads(graph: onnx.ModelProto, checkpoint: Checkpoint, weights: LoadedWeights) -> GraphSpec:
    """Append pooling, modules and classification heads to a graph, and say what is where.

    Args:
        graph: gives last_hidden_state (batch, seq_len, hidden_size) or logits first; changed in place.
        checkpoint: its facts.
        weights: of its Dense modules, and of heads that were not traced; those of a model that was not loaded are read
            from the files.

    Returns:
        Names of inputs and outputs for the manifest.
    """
    inputs = tuple(value.name for value in graph.graph.input)
    if isinstance(checkpoint.what, Splade):
        return _attach_splade(graph, checkpoint, checkpoint.what, inputs)
    if checkpoint.facts.outputs == "pooled_logits":
        chains = _Chains(PoolingNodes(graph), weights, checkpoint)
        chains.output(checkpoint.rows, LOGITS, [_BATCH])
        return GraphSpec(inputs=inputs, hidden=HIDDEN, pooled=LOGITS)
    if checkpoint.head is not None:
        hidden = HIDDEN if traces_base(checkpoint) else None
        if hidden:
            loaded = weights.model is not None
            head = linear_head(weights.model, checkpoint) if loaded else stored_head(checkpoint)
            attach = _attach_words if isinstance(checkpoint.what, CausalReranker) else _attach_linear
            attach(graph, checkpoint, *head)
        if checkpoint.facts.outputs == "token_logits":
            return GraphSpec(inputs=inputs, hidden=hidden, token=LOGITS)
        return GraphSpec(inputs=inputs, hidden=hidden, pooled=LOGITS)
    if checkpoint.facts.outputs == "token_embeddings":
        chains = _Chains(PoolingNodes(graph), weights, checkpoint)
        return GraphSpec(inputs=inputs, hidden=HIDDEN, token=chains.tokens())
    return _attach_embedding(graph, checkpoint, weights, inputs)


def traces_base(checkpoint: Checkpoint) -> bool:
    """Whether the head of a classifier is left out of the trace and attached afterwards.

    Decoders read their last token where input_ids is not the padding id, so that a text of that token alone gets what
    stands at the first place, which may be padding; here it is the text's own first token, as without neighbours. A
    family that describes its heads builds them itself.
    """
    has_head = checkpoint.head is not None and checkpoint.facts.outputs != "pooled_logits"
    return has_head and checkpoint.is_decoder and checkpoint.family.head is None


def reads_last_alone(checkpoint: Checkpoint) -> bool:
    """Whether the pooled output reads the hidden state of a text's last token and of no other."""
    if checkpoint.sparse or (checkpoint.pooling is None and checkpoint.head is None):
        return False
    if checkpoint.rows:
        poolings = [module for module in checkpoint.rows if isinstance(module, Pooling)]
        return [module.modes for module in poolings] == [("LAST",)]
    return checkpoint.facts.outputs != "token_logits" and traces_base(checkpoint)


def linear_head(model: Any, checkpoint: Checkpoint) -> tuple[FloatArray, FloatArray | None]:
    """Weight (n, hidden_size) and bias of a decoder's head: of its labels, or of the words that it compares."""
    if not isinstance(checkpoint.what, CausalReranker):
        layer = getattr(model, "score", None) or model.classifier
        bias = getattr(layer, "bias", None)
        return _array(layer.weight), None if bias is None else _array(bias)
    layer = model.get_output_embeddings()
    bias = getattr(layer, "bias", None)
    rows = list(checkpoint.what.token_ids)
    return _array(layer.weight[rows]), None if bias is None else _array(bias[rows])


def _attach_embedding(
    graph: onnx.ModelProto, checkpoint: Checkpoint, weights: LoadedWeights, inputs: tuple[str, ...]
) -> GraphSpec:
    names = {name for node in graph.graph.node for name in node.output}
    head = PoolingNodes(graph, mask="pooling_mask" if "pooling_mask" in names else "attention_mask")
    chains = _Chains(head, weights, checkpoint)
    chains.output(checkpoint.rows, POOLED, [_BATCH])
    return GraphSpec(inputs=inputs, hidden=HIDDEN, pooled=POOLED, token=chains.tokens())


class _Chains:
    """Appends chains of modules; what two of them begin with is computed once."""

    def __init__(self, head: PoolingNodes, weights: LoadedWeights, checkpoint: Checkpoint) -> None:
        self._head = head
        self._weights = weights
        self._checkpoint = checkpoint
        self._made: dict[Chain, str] = {(): HIDDEN}

    def output(self, chain: Chain, name: str, axes: list[str]) -> str:
        """Make what a chain gives an output of the graph."""
        self._head.op("Identity", self._rows(chain), output=name)
        return self._head.output(name, [*axes, row_size(chain, self._checkpoint.hidden_size)])

    def tokens(self) -> str:
        """Make the rows of tokens an output, where they are not the hidden states."""
        chain = self._checkpoint.token_rows
        return self.output(chain, TOKENS, [_BATCH, _SEQ]) if chain else HIDDEN

    def _rows(self, chain: Chain) -> str:
        if chain not in self._made:
            self._made[chain] = self._module(chain[-1], self._rows(chain[:-1]))
        return self._made[chain]

    def _module(self, module: Module, rows: str) -> str:
        match module:
            case Pooling():
                return self._head.pool(rows, module.modes)
            case Normalize():
                return self._head.normalize(rows)
            case LayerNorm():
                loaded = self._weights.modules[module]
                return self._head.layer_norm(rows, loaded.weight, loaded.bias)
            case Dense():
                loaded = self._weights.modules[module]
                made = self._head.dense(rows, loaded.weight, loaded.bias, module.activation)
                return self._head.residual(made, rows, loaded.residual) if module.use_residual else made


def _attach_splade(
    graph: onnx.ModelProto, checkpoint: Checkpoint, splade: Splade, inputs: tuple[str, ...]
) -> GraphSpec:
    head = PoolingNodes(graph)
    strategy = "sum" if splade.sums else "max"
    head.splade(LOGITS, strategy=strategy, twice=splade.twice, output=POOLED)
    del graph.graph.output[:]  # logits of every token: a run would carry them to no purpose
    head.output(POOLED, [_BATCH, checkpoint.vocab_size])
    return GraphSpec(inputs=inputs, pooled=POOLED)


def _attach_linear(
    graph: onnx.ModelProto, checkpoint: Checkpoint, weight: FloatArray, bias: FloatArray | None
) -> None:
    head = PoolingNodes(graph)
    by_token = checkpoint.facts.outputs == "token_logits"
    rows = HIDDEN if by_token else head.last_but(HIDDEN, checkpoint.passed_over_id)
    head.dense(rows, weight, bias, "Identity", output=LOGITS)
    head.output(LOGITS, [_BATCH, _SEQ, len(weight)] if by_token else [_BATCH, len(weight)])


def _attach_words(
    graph: onnx.ModelProto, checkpoint: Checkpoint, weight: FloatArray, bias: FloatArray | None
) -> None:
    """The logit of the one word, or by how much it is larger than that of the other."""
    logits = checkpoint.family.word_logits(checkpoint.config)
    weight = weight / np.float32(logits.divisor)
    bias = None if bias is None else bias / np.float32(logits.divisor)
    if logits.cap is None:
        signs = np.array([[1.0], [-1.0]], np.float32)[: len(weight)]
        _attach_linear(
            graph, checkpoint, _sum(weight * signs), None if bias is None else _sum(bias * signs[:, 0])
        )
        return
    head, cap = PoolingNodes(graph), np.float32(logits.cap)
    capped = head.dense(
        head.pool(HIDDEN, ["LAST"]), weight / cap, None if bias is None else bias / cap, "Tanh"
    )
    head.dense(capped, np.array([[cap, -cap]], np.float32)[:, : len(weight)], None, "Identity", output=LOGITS)
    head.output(LOGITS, [_BATCH, 1])


def _sum(rows: FloatArray) -> FloatArray:
    total: FloatArray = rows.sum(axis=0, keepdims=True)
    return total


def _array(tensor: Any) -> FloatArray:
    array: FloatArray = tensor.detach().float().numpy()
    return array
