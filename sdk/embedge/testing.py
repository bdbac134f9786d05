"""Helpers for tests of programs that use embedge: a tiny bundle, and a comparison of embeddings.

They need nothing but the runtime's own dependencies.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._testing import tiny_model as tiny
from embedge._version import __version__
from embedge.bundle import sha256_file
from embedge.errors import ParamsError
from embedge.manifest import (
    MANIFEST_FILE,
    PROBES_FILE,
    SCHEMA_VERSION,
    TOKENIZER_FILE,
    DenseSpec,
    Fidelity,
    FileRecord,
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
    dump_manifest,
    fingerprint,
)
from embedge.types import Activation, PathLike, PoolingMode, Side, Task

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


def tiny_bundle(
    folder: PathLike,
    kind: TinyKind = "embed",
    *,
    pooling: Sequence[PoolingMode] = ("MEAN",),
    with_dense: bool = False,
    special_tokens: bool = True,
    padding_side: Side = "right",
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a complete bundle of a few kilobytes, with random weights; it loads in milliseconds.

    Texts are split into words at white space and punctuation. About fifty English words are known; the word
    "nan" makes the graph return NaN.

    Args:
        folder: where to write; made if missing, files in it are replaced.
        kind: what the model is for. "llm_reranker" has a template, left padding and no special tokens,
            whatever the other arguments say; "late_interaction" has a Dense module.
        pooling: kind "embed": modes whose results are concatenated; ("ALL",) gives token_embed only.
        with_dense: kind "embed": a Dense module with Tanh after pooling.
        special_tokens: put [CLS] and [SEP] around texts.
        padding_side: where padding goes.
        seed: of the weights.
        changes: manifest fields to replace, by name; the fingerprint is made afterwards.

    Returns:
        The folder.

    Raises:
        ParamsError: an unknown kind.
    """
    if kind not in get_args(TinyKind):
        raise ParamsError(f"kind={kind!r} is not known; expected one of {', '.join(get_args(TinyKind))}")
    if kind == "llm_reranker":
        special_tokens, padding_side = False, "left"
    with_dense = with_dense or kind == "late_interaction"
    target = Path(folder)
    weights = tiny.make_weights(seed, len(_LABELS.get(kind, ())), len(pooling))
    graph, graph_spec = _graph(kind, weights, pooling, with_dense)
    tokenizer_spec = TokenizerSpec(
        pad_token_id=tiny.PAD,
        padding_side=padding_side,
        prefix_ids=(tiny.CLS,) if special_tokens else (),
        suffix_ids=(tiny.SEP,) if special_tokens else (),
    )
    probes = Probes(
        tolerances={"fp32": 1e-4}, probes=_probes(kind, weights, pooling, with_dense, tokenizer_spec)
    )
    contents = {
        _GRAPH_FILE: graph,
        TOKENIZER_FILE: tiny.tokenizer_json(special_tokens=special_tokens),
        PROBES_FILE: msgspec.json.encode(probes),
    }
    if with_dense:
        contents[_DENSE_FILE] = _npz(weight=weights.dense, bias=weights.dense_bias)
    for name, content in contents.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    dense = DenseSpec(
        file=_DENSE_FILE, in_features=weights.dense.shape[1], out_features=tiny.DENSE_SIZE, activation="Tanh"
    )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=f"tiny-{kind}",
        architecture="TinyModel",
        tasks=("token_embed",) if graph_spec.pooled is None and kind == "embed" else _TASKS[kind],
        hidden_size=tiny.HIDDEN_SIZE,
        embedding_size=_embedding_size(kind, len(pooling), with_dense),
        vocab_size=len(tiny.VOCABULARY),
        max_seq_len=32,
        tokenizer=tokenizer_spec,
        pooling=_pooling(kind, tuple(pooling)),
        modules=(dense,) if with_dense else (),
        head=_head(kind),
        template=_TEMPLATE if kind == "llm_reranker" else None,
        late_interaction=_LATE_INTERACTION if kind == "late_interaction" else None,
        graph=graph_spec,
        normalize=kind in ("embed", "late_interaction"),
        sparse=kind == "sparse",
        variants={
            "fp32": Variant(
                file=_GRAPH_FILE,
                dtype="float32",
                fidelity=Fidelity(num_texts=1, max_abs_diff=0.0, max_batch_diff=0.0),
            )
        },
        files={
            name: FileRecord(size_bytes=len(content), sha256=sha256_file(target / name))
            for name, content in contents.items()
        },
        source=SourceSpec(name="embedge.testing", weights_sha256={}),
        exporter={"embedge": __version__},
        fingerprint=_NO_FINGERPRINT,
    )
    manifest = msgspec.structs.replace(manifest, **(changes or {}))
    manifest = msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))
    (target / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
    return target


def assert_embeddings_close(actual: npt.ArrayLike, expected: npt.ArrayLike, atol: float = 1e-5) -> None:
    """Compare two sets of embeddings component by component.

    Args:
        actual: (num_prompts, dim) or (dim,).
        expected: of the same shape.
        atol: largest absolute difference allowed.

    Raises:
        AssertionError: shapes differ, or a component does; names the worst row, its largest difference and its cosine.
    """
    a, e = (np.atleast_2d(np.asarray(rows, dtype=np.float64)) for rows in (actual, expected))
    if a.shape != e.shape:
        raise AssertionError(f"embeddings have shape {a.shape}, expected {e.shape}")
    # NaN compares as a difference without limit
    diffs = np.nan_to_num(np.abs(a - e), nan=np.inf).max(axis=1, initial=0.0)
    if (diffs <= atol).all():
        return
    worst = int(diffs.argmax())
    norms = float(np.linalg.norm(a[worst]) * np.linalg.norm(e[worst]))
    cosine = float(a[worst] @ e[worst]) / norms if norms else float("nan")
    raise AssertionError(
        f"{int((diffs > atol).sum())} of {len(a)} embeddings differ by more than {atol:g}; the worst is row {worst}: "
        f"largest absolute difference {diffs[worst]:.3g}, cosine {cosine:.6f}"
    )


_TEMPLATE = TemplateSpec(
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


def _graph(
    kind: TinyKind, weights: tiny.Weights, pooling: Sequence[PoolingMode], with_dense: bool
) -> tuple[bytes, GraphSpec]:
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


def _embedding_size(kind: TinyKind, num_modes: int, with_dense: bool) -> int | None:
    if kind == "sparse":
        return len(tiny.VOCABULARY)
    if kind not in ("embed", "late_interaction"):
        return None
    return tiny.DENSE_SIZE if with_dense else tiny.HIDDEN_SIZE * num_modes


def _probes(
    kind: TinyKind,
    weights: tiny.Weights,
    pooling: Sequence[PoolingMode],
    with_dense: bool,
    tokenizer: TokenizerSpec,
) -> tuple[Probe, ...]:
    """One probe, answered in numpy, for the kinds whose answer is a formula of one line."""
    words = [tiny.VOCABULARY.index(word) for word in _PROBE_WORDS]
    token_ids = [*tokenizer.prefix_ids, *words, *tokenizer.suffix_ids]
    hidden = tiny.hidden_states(weights, token_ids, [0] * len(token_ids))
    text = " ".join(_PROBE_WORDS)
    if kind == "embed" and all(mode in _ROW_MODES for mode in pooling):
        row = tiny.pooled_row(weights, hidden, pooling, with_dense=with_dense)
        return (Probe(task="embed", prompt=text, expected=tuple(row.tolist())),)
    if kind == "classify":
        logits = hidden[0] @ weights.head.T + weights.head_bias
        return (Probe(task="classify", prompt=text, expected=tuple(logits.tolist())),)
    return ()


def _npz(**arrays: npt.NDArray[np.float32]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle
    return content.getvalue()
