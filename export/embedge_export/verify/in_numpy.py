"""A checkpoint's answers in numpy: its network as verify/forward computes it, without torch and transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from embedge.manifest import ReferenceRecord
from embedge.runtime import available_threads
from embedge.types import Activation, FloatArray, PoolingMode
from embedge_export.families.structure import Head, Linear
from embedge_export.graph.decoder_heads import decoder_head, row
from embedge_export.graph.route import describe
from embedge_export.source.causal_reranker import CausalReranker
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.classifier import Classifier
from embedge_export.source.embedder import Splade
from embedge_export.source.modules import Dense
from embedge_export.source.tensors import LoadedModule
from embedge_export.verify.computation import Encoding
from embedge_export.verify.forward.encoder import Forward

_Rows: TypeAlias = npt.NDArray[np.float64]

_SHORTEST = 1e-12
_EPSILON = 1e-5

_MOST_THREADS = 8
"""Each holds what is between the layers of a text."""


class InNumpy:
    """See Computation.

    Args:
        checkpoint: its facts; the weights are read from its files.

    Raises:
        UnsupportedError: the structure of its network is not known.
        ExportError: weights are missing, or contradict config.json.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._last_only = isinstance(checkpoint.what, Classifier) and checkpoint.is_decoder
        self._passed_over_id = checkpoint.passed_over_id
        self._head: Head | None = None
        self._words: Linear | None = None
        self._forward: Forward | None = None
        if checkpoint.kind == "static":
            return
        described = describe(checkpoint)
        self._forward = Forward(described.encoder, described.weights)
        if isinstance(checkpoint.what, CausalReranker):
            self._words = decoder_head(checkpoint, described.weights)
            self._made_of = checkpoint.family.word_logits(checkpoint.config)
        elif checkpoint.facts.head is not None:
            self._head = described.head or Head(last=decoder_head(checkpoint, described.weights))

    @property
    def record(self) -> ReferenceRecord:
        """See Computation."""
        return ReferenceRecord(name="numpy", version=np.__version__)

    @property
    def num_threads(self) -> int:
        """See Computation."""
        return min(available_threads(), _MOST_THREADS)

    def forget(self) -> None:
        """See Computation."""
        if self._forward is not None:
            self._forward.forget()

    def hidden_states(self, encoding: Encoding) -> FloatArray:
        """See Computation."""
        assert self._forward is not None
        return self._forward.hidden_states(
            encoding["input_ids"], encoding.get("token_type_ids", ()), encoding.get("attention_mask", ())
        )

    def logits(self, encoding: Encoding) -> FloatArray:
        """See Computation."""
        assert self._forward is not None
        assert self._head is not None
        rows = self.hidden_states(encoding)
        if self._last_only:
            ids = encoding["input_ids"]
            read = [place for place, token in enumerate(ids) if token != self._passed_over_id]
            place = read[-1] if read else 0
            made = self._forward.logits(self._head, rows[place : place + 1])
            return made[0] if self._head.pooling is None else made
        return self._forward.logits(self._head, rows)

    def word_logits(self, encoding: Encoding, token_ids: Sequence[int]) -> FloatArray:
        """See Computation."""
        assert self._forward is not None
        assert self._words is not None
        rows = self.hidden_states(encoding)[-1:]
        heads = (Head(last=row(self._words, token)) for token in token_ids)
        made = np.concatenate([self._forward.logits(head, rows)[0] for head in heads])
        made /= np.float32(self._made_of.divisor)
        cap = self._made_of.cap
        return made if cap is None else _single(np.tanh(made / cap) * cap)

    def pool(self, rows: FloatArray, mode: PoolingMode) -> FloatArray:
        """See Computation."""
        return _single(_POOLERS[mode](rows.astype(np.float64)))

    def unit(self, rows: FloatArray) -> FloatArray:
        """See Computation."""
        wide = rows.astype(np.float64)
        lengths = np.sqrt((wide * wide).sum(axis=-1, keepdims=True))
        return _single(wide / np.maximum(lengths, _SHORTEST))

    def layer_norm(self, rows: FloatArray, loaded: LoadedModule) -> FloatArray:
        """See Computation."""
        wide = rows.astype(np.float64)
        centred = wide - wide.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return _single(centred / np.sqrt(variance + _EPSILON) * loaded.weight + _or_zero(loaded.bias))

    def dense(self, rows: FloatArray, module: Dense, loaded: LoadedModule) -> FloatArray:
        """See Computation."""
        made = _ACTIVATIONS[module.activation](
            (rows @ loaded.weight.T + _or_zero(loaded.bias)).astype(np.float64)
        )
        if module.use_residual:
            made = made + (rows if loaded.residual is None else rows @ loaded.residual.T)
        return _single(made)

    def term_weights(self, logits: FloatArray, splade: Splade) -> FloatArray:
        """See Computation."""
        weights = np.log1p(np.maximum(logits, np.float32(0)))
        if splade.twice:
            weights = np.log1p(weights)
        return _single(weights.sum(axis=0, dtype=np.float64) if splade.sums else weights.max(axis=0))

    def activate(self, rows: FloatArray, activation: Activation) -> FloatArray:
        """See Computation."""
        wide = rows.astype(np.float64)
        if activation == "softmax":
            powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
            return _single(powers / powers.sum(axis=-1, keepdims=True))
        return _single(_sigmoid(wide)) if activation == "sigmoid" else rows


def _weighted_mean(rows: _Rows) -> _Rows:
    weights = np.arange(1, len(rows) + 1)
    mean: _Rows = weights @ rows / weights.sum()
    return mean


_POOLERS: Mapping[PoolingMode, Callable[[_Rows], _Rows]] = MappingProxyType(
    {
        "CLS": lambda rows: rows[0],
        "LAST": lambda rows: rows[-1],
        "MEAN": lambda rows: rows.mean(axis=0),
        "MAX": lambda rows: rows.max(axis=0),
        "MEAN_SQRT_LEN": lambda rows: rows.sum(axis=0) / math.sqrt(len(rows)),
        "WEIGHTEDMEAN": _weighted_mean,
    }
)


def _sigmoid(x: _Rows) -> _Rows:
    made: _Rows = 0.5 * (1.0 + np.tanh(0.5 * x))
    return made


def _softplus(x: _Rows) -> _Rows:
    made: _Rows = np.logaddexp(0.0, x)
    return made


def _elu(x: _Rows, alpha: float = 1.0) -> _Rows:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _gelu(x: _Rows) -> _Rows:
    tails = [math.erfc(-value * math.sqrt(0.5)) for value in x.ravel().tolist()]
    return 0.5 * x * np.array(tails).reshape(x.shape)


_ACTIVATIONS: Mapping[str, Callable[[_Rows], _Rows]] = MappingProxyType(
    {
        "ELU": _elu,
        "GELU": _gelu,
        "Hardsigmoid": lambda x: np.clip((x + 3) / 6, 0, 1),
        "Hardswish": lambda x: x * np.clip((x + 3) / 6, 0, 1),
        "Hardtanh": lambda x: np.clip(x, -1, 1),
        "Identity": lambda x: x,
        "LeakyReLU": lambda x: np.maximum(x, 0.01 * x),
        "LogSigmoid": lambda x: -_softplus(-x),
        "Mish": lambda x: x * np.tanh(_softplus(x)),
        "ReLU": lambda x: np.maximum(x, 0),
        "ReLU6": lambda x: np.clip(x, 0, 6),
        "SELU": lambda x: 1.0507009873554804934193349852946 * _elu(x, 1.6732632423543772848170429916717),
        "SiLU": lambda x: x * _sigmoid(x),
        "Sigmoid": _sigmoid,
        "Softplus": _softplus,
        "Softsign": lambda x: x / (1 + np.abs(x)),
        "Tanh": np.tanh,
    }
)
"""torch.nn's classes without parameters that a Dense module may end in, by their names."""


def _or_zero(bias: FloatArray | None) -> Any:
    return np.float32(0) if bias is None else bias


def _single(rows: Any) -> FloatArray:
    return np.ascontiguousarray(rows, np.float32)
