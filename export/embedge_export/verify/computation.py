"""What a reference computes with: the checkpoint's network, and the arithmetic of what comes after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from embedge.manifest import ReferenceRecord
from embedge.types import Activation, FloatArray, PoolingMode
from embedge_export.source.embedder import Splade
from embedge_export.source.modules import Dense
from embedge_export.source.tensors import LoadedModule

Encoding: TypeAlias = Mapping[str, list[int]]
"""A text's token ids and what a tokenizer gives with them, by the names of transformers."""


class Computation(Protocol):
    """One way to compute a checkpoint's answers in float32; every array is of one text, without padding."""

    @property
    def record(self) -> ReferenceRecord:
        """What the manifest says of it."""
        ...

    @property
    def num_threads(self) -> int:
        """How many texts it computes at a time, each in a thread."""
        ...

    def forget(self) -> None:
        """Let go of the weights; who asks again has them read again."""
        ...

    def hidden_states(self, encoding: Encoding) -> FloatArray:
        """The network's last hidden states, (num_tokens, hidden_size)."""
        ...

    def logits(self, encoding: Encoding) -> FloatArray:
        """What the checkpoint's own head gives: (num_labels,), or (num_tokens, size)."""
        ...

    def word_logits(self, encoding: Encoding, token_ids: Sequence[int]) -> FloatArray:
        """Logits of some words after the last token, in their order."""
        ...

    def pool(self, rows: FloatArray, mode: PoolingMode) -> FloatArray:
        """One row of (num_tokens, size)."""
        ...

    def unit(self, rows: FloatArray) -> FloatArray:
        """Rows of length 1; shorter than 1e-12 they are divided by that."""
        ...

    def layer_norm(self, rows: FloatArray, loaded: LoadedModule) -> FloatArray:
        """torch.nn.LayerNorm, epsilon 1e-5."""
        ...

    def dense(self, rows: FloatArray, module: Dense, loaded: LoadedModule) -> FloatArray:
        """A linear layer, its activation, and its input where that is added."""
        ...

    def term_weights(self, logits: FloatArray, splade: Splade) -> FloatArray:
        """SPLADE's weights of the vocabulary, of logits (num_tokens, vocab_size)."""
        ...

    def activate(self, rows: FloatArray, activation: Activation) -> FloatArray:
        """Logits as probabilities."""
        ...
