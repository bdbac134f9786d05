"""What a tiny bundle of each kind holds: graph, tokenizer, probes, and the manifest that states them."""

from __future__ import annotations

import io
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._testing import tiny_model as tiny
from embedge._version import __version__
from embedge.manifest import (
    PROBES_FILE,
    SCHEMA_VERSION,
    TOKENIZER_FILE,
    DenseSpec,
    Fidelity,
    GraphSpec,
    HeadSpec,
    LateInteractionSpec,
    Manifest,
    PoolingSpec,
    Probe,
    Probes,
    SourceSpec,
    TemplateSpec,
    TokenizerSpec,
    Variant,
)
from embedge.types import Activation, PoolingMode, Side, Task

TinyKind: TypeAlias = Literal[
    "embed",
    "classify",
    "token_classify",
    "cross_encoder",
    "llm_reranker",
    "late_interaction",
    "sparse",
    "reward",
]

_TASKS: dict[TinyKind, tuple[Task, ...]] = {
    "embed": ("embed", "token_embed"),
    "classify": ("classify",),
    "token_classify": ("token_classify",),
    "cross_encoder": ("score", "classify"),
    "llm_reranker": ("score",),
    "late_interaction": ("token_embed",),
    "sparse": ("embed",),
    "reward": ("token_classify",),
}
_LABELS = {
    "classify": ("negative", "neutral", "positive"),
    "token_classify": ("O", "PLACE", "PERSON"),
    "cross_encoder": ("relevance",),
    "llm_reranker": ("relevance",),
    "reward": ("bad", "good"),
}
_ROW_MODES = ("CLS", "LAST", "MEAN", "MAX", "MEAN_SQRT_LEN", "WEIGHTEDMEAN")
_GRAPH_FILE = "onnx/model.onnx"
_DENSE_FILE = "modules/0.npz"
_NO_FINGERPRINT = "0" * 64
_PROBE_WORDS = ("the", "river", "is", "cold")
_TEMPLATE = TemplateSpec(
    way="apart",
    prefix="query",
    body="{instruction} : {query} document : {document}",
    suffix="yes no ?",
    instruction="good",
)
_LATE_INTERACTION = LateInteractionSpec(
    query_len=8,
    document_len=16,
    query_marker_id=tiny.QUERY,
    document_marker_id=tiny.DOCUMENT,
    expand_query=True,
    expansion_token_id=tiny.MASK,
    skip_token_ids=(tiny.VOCABULARY.index("."), tiny.VOCABULARY.index(",")),
)


class TinyBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A tiny bundle to write; arguments are those of embedge.testing.tiny_bundle, brought together."""

    kind: TinyKind
    pooling: tuple[PoolingMode, ...]
    with_dense: bool
    special_tokens: bool
    padding_side: Side
    seed: int

    def files(self) -> dict[str, bytes]:
        """Content of every file but the manifest, by its path in the bundle."""
        weights = self._weights()
        graph, _ = _graph(self, weights)
        probes = Probes(tolerances={"fp32": 1e-4}, probes=_probes(self, weights))
        contents = {
            _GRAPH_FILE: graph,
            TOKENIZER_FILE: tiny.tokenizer_json(special_tokens=self.special_tokens),
            PROBES_FILE: msgspec.json.encode(probes),
        }
        if self.with_dense:
            contents[_DENSE_FILE] = _npz(weight=weights.dense, bias=weights.dense_bias)
        return contents

    def manifest(self) -> Manifest:
        """The manifest, without records of files and with no fingerprint yet."""
        kind, weights = self.kind, self._weights()
        _, graph = _graph(self, weights)
        dense = DenseSpec(
            file=_DENSE_FILE,
            in_features=weights.dense.shape[1],
            out_features=tiny.DENSE_SIZE,
            activation="Tanh",
        )
        fidelity = Fidelity(num_texts=1, max_abs_diff=0.0, max_batch_diff=0.0)
        return Manifest(
            schema_version=SCHEMA_VERSION,
            name=f"tiny-{kind}",
            architecture="TinyModel",
            tasks=("token_embed",) if graph.pooled is None and kind == "embed" else _TASKS[kind],
            hidden_size=tiny.HIDDEN_SIZE,
            embedding_size=self._embedding_size(),
            vocab_size=len(tiny.VOCABULARY),
            max_seq_len=32,
            tokenizer=self.tokenizer(),
            pooling=_pooling(kind, self.pooling),
            modules=(dense,) if self.with_dense else (),
            head=_head(kind),
            template=_TEMPLATE if kind == "llm_reranker" else None,
            late_interaction=_LATE_INTERACTION if kind == "late_interaction" else None,
            graph=graph,
            normalize=kind in ("embed", "late_interaction"),
            sparse=kind == "sparse",
            variants={"fp32": Variant(file=_GRAPH_FILE, dtype="float32", fidelity=fidelity)},
            files={},
            source=SourceSpec(name="embedge.testing", weights_sha256={}),
            exporter={"embedge": __version__},
            fingerprint=_NO_FINGERPRINT,
        )

    def tokenizer(self) -> TokenizerSpec:
        """Facts about the tokenizer."""
        return TokenizerSpec(
            pad_token_id=tiny.PAD,
            padding_side=self.padding_side,
            prefix_ids=(tiny.CLS,) if self.special_tokens else (),
            suffix_ids=(tiny.SEP,) if self.special_tokens else (),
        )

    def _weights(self) -> tiny.TinyWeights:
        return tiny.make_weights(self.seed, len(_LABELS.get(self.kind, ())), len(self.pooling))

    def _embedding_size(self) -> int | None:
        if self.kind == "sparse":
            return len(tiny.VOCABULARY)
        if self.kind not in ("embed", "late_interaction"):
            return None
        return tiny.DENSE_SIZE if self.with_dense else tiny.HIDDEN_SIZE * len(self.pooling)


def _graph(bundle: TinyBundle, weights: tiny.TinyWeights) -> tuple[bytes, GraphSpec]:
    kind, pooling, with_dense = bundle.kind, bundle.pooling, bundle.with_dense
    inputs = ("input_ids", "attention_mask", "position_ids" if kind == "llm_reranker" else "token_type_ids")
    graph = tiny.TinyGraph(weights, inputs)
    pooled = token = None
    if kind == "embed":
        token = tiny.HIDDEN
        if all(mode in _ROW_MODES for mode in pooling):
            graph.add_pooled(pooling, with_dense=with_dense)
            pooled = tiny.POOLED
        if with_dense and len(pooling) == 1:
            graph.add_token_dense()
            token = tiny.TOKENS
    elif kind == "late_interaction":
        graph.add_token_dense()
        token = tiny.TOKENS
    elif kind == "sparse":
        graph.add_terms()
        pooled = tiny.POOLED
    elif kind in ("token_classify", "reward"):
        graph.add_logits(None)
        token = tiny.LOGITS
    else:
        graph.add_logits("LAST" if kind == "llm_reranker" else "CLS")
        pooled = tiny.LOGITS
    return graph.to_bytes(), GraphSpec(inputs=inputs, hidden=tiny.HIDDEN, pooled=pooled, token=token)


def _pooling(kind: TinyKind, modes: tuple[PoolingMode, ...]) -> PoolingSpec | None:
    if kind == "embed":
        return PoolingSpec(modes=modes)
    if kind == "reward":
        return PoolingSpec(modes=("STEP",), step_tag_id=tiny.VOCABULARY.index("."))
    return PoolingSpec(modes=("ALL",)) if kind in ("token_classify", "late_interaction") else None


def _head(kind: TinyKind) -> HeadSpec | None:
    labels = _LABELS.get(kind)
    if labels is None:
        return None
    activation: Activation = "sigmoid" if len(labels) == 1 else "softmax"
    return HeadSpec(labels=labels, activation=activation, score_activation=activation)


def _probes(bundle: TinyBundle, weights: tiny.TinyWeights) -> tuple[Probe, ...]:
    """One probe, answered in numpy, for the kinds whose answer is a formula of one line."""
    kind, pooling, tokenizer = bundle.kind, bundle.pooling, bundle.tokenizer()
    words = [tiny.VOCABULARY.index(word) for word in _PROBE_WORDS]
    token_ids = [*tokenizer.prefix_ids, *words, *tokenizer.suffix_ids]
    hidden = tiny.hidden_states(weights, token_ids, [0] * len(token_ids))
    text = " ".join(_PROBE_WORDS)
    if kind == "embed" and all(mode in _ROW_MODES for mode in pooling):
        row = tiny.pooled_row(weights, hidden, pooling, with_dense=bundle.with_dense)
        return (Probe(task="embed", prompt=text, expected=tuple(row.tolist())),)
    if kind == "classify":
        logits = hidden[0] @ weights.head.T + weights.head_bias
        return (Probe(task="classify", prompt=text, expected=tuple(logits.tolist())),)
    return ()


def _npz(**arrays: npt.NDArray[np.float32]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle
    return content.getvalue()
