"""Rows become what the verbs return: one numbered output per prompt or pair."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from embedge._calls.options import PooledOutput
from embedge._calls.request import Call, Facts
from embedge._calls.scoring import Scores
from embedge._rows.resolved import ResolvedParams
from embedge.manifest import HeadSpec
from embedge.outputs import (
    ArrayOutputs,
    ClassificationOutput,
    ClassificationRequestOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    PoolingRequestOutput,
    RaggedOutputs,
    RerankResult,
    ScoringOutput,
    ScoringRequestOutput,
    SparseEmbeddingOutput,
    SparseEmbeddingRequestOutput,
)
from embedge.types import FloatArray, IntArray

PromptRows = FloatArray | list[FloatArray]
"""One row per prompt: an array, or a list where the rows have different sizes."""


def pooled_outputs(call: Call, rows: PromptRows) -> ArrayOutputs[PooledOutput]:
    """Answers of `encode` that are one row per prompt."""
    return ArrayOutputs(rows, partial(_pooled, rows, call.facts))


def plugin_outputs(call: Call, arrays: list[FloatArray]) -> RaggedOutputs[PooledOutput]:
    """Answers of `encode` for the task "plugin"."""
    return RaggedOutputs(arrays, partial(_pooled, arrays, call.facts))


def token_outputs(
    call: Call, rows: list[FloatArray], positions: list[IntArray], head: HeadSpec | None
) -> RaggedOutputs[PooledOutput]:
    """Answers of `encode` for the token tasks.

    Args:
        call: what was asked.
        rows: of each prompt, (num_rows, dim).
        positions: the token of each row, counted in its prompt.
        head: names the columns of token_classify.
    """
    labels = [None if call.task == "token_embed" else column_labels(head, params) for params in call.params]
    return RaggedOutputs(rows, partial(_tokens, rows, call.facts, positions, labels))


def embedding_outputs(call: Call, rows: PromptRows) -> ArrayOutputs[EmbeddingRequestOutput]:
    """Answers of `embed`."""
    return ArrayOutputs(rows, partial(_embedding, rows, call.facts))


def sparse_outputs(
    call: Call, terms: list[tuple[IntArray, FloatArray]], vocab_size: int
) -> RaggedOutputs[SparseEmbeddingRequestOutput]:
    """Answers of `embed_sparse`.

    Args:
        call: what was asked.
        terms: token ids and weights of each prompt.
        vocab_size: size of the dense row.
    """
    return RaggedOutputs([weights for _, weights in terms], partial(_sparse, terms, call.facts, vocab_size))


def classification_outputs(
    call: Call, rows: PromptRows, head: HeadSpec | None
) -> ArrayOutputs[ClassificationRequestOutput]:
    """Answers of `classify`."""
    return ArrayOutputs(rows, partial(_classification, rows, call.facts, column_labels(head)))


def scoring_outputs(scores: Scores, first_id: int) -> ArrayOutputs[ScoringRequestOutput]:
    """Answers of `score`, numbered from an id on."""
    return ArrayOutputs(scores.scores[:, 0], partial(_score, scores, first_id))


# one output each; functions of the module, so that what refers to them can be pickled


def _pooled(rows: PromptRows, facts: Facts, i: int) -> PooledOutput:
    return PoolingRequestOutput(outputs=PoolingOutput(data=rows[i]), **facts.of(i))


def _tokens(
    rows: list[FloatArray],
    facts: Facts,
    positions: list[IntArray],
    labels: list[tuple[str, ...] | None],
    i: int,
) -> PooledOutput:
    offsets = facts.encoded[i].offsets
    kept = None if offsets is None else [offsets[k] for k in positions[i]]
    answer = PoolingOutput(data=rows[i], offsets=kept, labels=labels[i])
    return PoolingRequestOutput(outputs=answer, **facts.of(i))


def _embedding(rows: PromptRows, facts: Facts, i: int) -> EmbeddingRequestOutput:
    return EmbeddingRequestOutput(outputs=EmbeddingOutput(data=rows[i]), **facts.of(i))


def _sparse(
    terms: list[tuple[IntArray, FloatArray]], facts: Facts, vocab_size: int, i: int
) -> SparseEmbeddingRequestOutput:
    token_ids, weights = terms[i]
    embedding = SparseEmbeddingOutput(token_ids=token_ids, weights=weights, vocab_size=vocab_size)
    return SparseEmbeddingRequestOutput(outputs=embedding, **facts.of(i))


def _classification(
    rows: PromptRows, facts: Facts, labels: tuple[str, ...], i: int
) -> ClassificationRequestOutput:
    return ClassificationRequestOutput(
        outputs=ClassificationOutput(data=rows[i], labels=labels), **facts.of(i)
    )


def _score(scores: Scores, first_id: int, i: int) -> ScoringRequestOutput:
    parts = scores.pairs[i]
    query = parts[0].num_truncated if len(parts) == 2 else parts[0].num_truncated_query
    total = sum(part.num_truncated for part in parts)
    return ScoringRequestOutput(
        request_id=str(first_id + i),
        outputs=ScoringOutput(data=scores.scores[i]),
        prompt_token_ids=[token_id for part in parts for token_id in part.token_ids],
        num_truncated_tokens=total,
        num_truncated_query_tokens=query,
        num_truncated_document_tokens=total - query,
    )


def ranking(scores: Scores, documents: Sequence[str], top_n: int | None) -> list[RerankResult]:
    """Answer of `rerank`: the best first, equal ones in their order."""
    order = np.argsort(-scores.order_by, kind="stable")[:top_n]
    return [
        RerankResult(index=int(i), score=float(scores.scores[i, 0]), document=documents[int(i)])
        for i in order
    ]


def column_labels(head: HeadSpec | None, params: ResolvedParams | None = None) -> tuple[str, ...]:
    """Names of the columns that the head, or these parameters, return."""
    labels = head.labels if head else ()
    if params is not None and params.returned_token_ids:
        return tuple(labels[i] if i < len(labels) else str(i) for i in params.returned_token_ids)
    return labels
