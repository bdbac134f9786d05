"""Heads of decoders, which no family describes: where the weights of a checkpoint have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray
from embedge_export.families.structure import Linear, Tensor
from embedge_export.graph.built.fit import check_finite
from embedge_export.graph.built.weights import StoredWeights, Weights
from embedge_export.source.causal_reranker import CausalReranker
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.repository import weight_files

_WORDS = ("lm_head", "embed_tokens")
"""Matrices of a language model's logits: its own, or the table of words where they are tied."""
_HEADS = ("score", "classifier")
"""What transformers' classifiers of decoders call their head."""


def decoder_head(checkpoint: Checkpoint, weights: Weights) -> Linear:
    """The projection of a decoder's hidden states to its labels, or to the words of a causal reranker.

    Raises:
        ExportError: the weights have none that fits config.json.
    """
    if isinstance(checkpoint.what, CausalReranker):
        return _words(checkpoint, weights)
    assert checkpoint.head is not None
    shape = (len(checkpoint.head.labels), checkpoint.hidden_size)
    found = _find(_HEADS, shape, weights)
    if found is None:
        names = " or ".join(f"{name}.weight" for name in _HEADS)
        raise ExportError(
            f"the weights have no {names} of shape {shape}; expected a classifier's head, of a row for each label. "
            "Check id2label in config.json, or pass another --task."
        )
    return found


def row(matrix: Linear, index: int) -> Linear:
    """The part of a projection that gives one component."""
    rows, bias = (index, index + 1), matrix.bias
    return Linear(
        weight=Tensor(name=matrix.weight.name, shape=matrix.weight.shape, rows=rows),
        bias=None if bias is None else Tensor(name=bias.name, shape=bias.shape, rows=rows),
    )


def stored_head(checkpoint: Checkpoint) -> tuple[FloatArray, FloatArray | None]:
    """Weight (n, hidden_size) and bias of a decoder's head, as outputs.linear_head gives them.

    Raises:
        ExportError: as `decoder_head`.
    """
    family = checkpoint.family
    weights = StoredWeights(weight_files(checkpoint.transformer), family.prefixes, family.renames)
    head = decoder_head(checkpoint, weights)
    check_finite([tensor for tensor in (head.weight, head.bias) if tensor is not None], weights)
    if not isinstance(checkpoint.what, CausalReranker):
        return _read(head, weights)
    read = [_read(row(head, token), weights) for token in checkpoint.what.token_ids]
    biases = [bias for _, bias in read if bias is not None]
    return np.concatenate([weight for weight, _ in read]), np.concatenate(biases) if biases else None


def _words(checkpoint: Checkpoint, weights: Weights) -> Linear:
    shape = (checkpoint.vocab_size, checkpoint.hidden_size)
    tied = bool(checkpoint.config.get("tie_word_embeddings"))
    found = _find(_WORDS if tied else _WORDS[:1], shape, weights)
    if found is None:
        raise ExportError(
            f"the weights have no lm_head.weight of shape {shape}, and config.json does not state "
            "tie_word_embeddings; expected either. Restore both from the model's origin."
        )
    return found


def _find(names: Sequence[str], shape: tuple[int, ...], weights: Weights) -> Linear | None:
    """The first of some projections that the weights have."""
    for name in names:
        weight = Tensor(name=f"{name}.weight", shape=shape)
        bias = Tensor(name=f"{name}.bias", shape=shape[:1])
        if weights.has(weight):
            return Linear(weight=weight, bias=bias if weights.has(bias) else None)
    return None


def _read(part: Linear, weights: Weights) -> tuple[FloatArray, FloatArray | None]:
    return weights.read(part.weight), None if part.bias is None else weights.read(part.bias)
