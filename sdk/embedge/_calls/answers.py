"""Rows become what the verbs return: one numbered output per prompt or pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge._calls.options import PooledOutput
from embedge._calls.request import Call
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
    return ArrayOutputs(
        rows, lambda i: PoolingRequestOutput(outputs=PoolingOutput(data=rows[i]), **call.facts(i))
    )


def plugin_outputs(call: Call, arrays: list[FloatArray]) -> RaggedOutputs[PooledOutput]:
    """Answers of `encode` for the task "plugin"."""
    return RaggedOutputs(
        arrays, lambda i: PoolingRequestOutput(outputs=PoolingOutput(data=arrays[i]), **call.facts(i))
    )


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

    def make(i: int) -> PooledOutput:
        offsets = call.encoded[i].offsets
        kept = None if offsets is None else [offsets[k] for k in positions[i]]
        labels = None if call.task == "token_embed" else column_labels(head, call.params[i])
        return PoolingRequestOutput(
            outputs=PoolingOutput(data=rows[i], offsets=kept, labels=labels), **call.facts(i)
        )

    return RaggedOutputs(rows, make)


def embedding_outputs(call: Call, rows: PromptRows) -> ArrayOutputs[EmbeddingRequestOutput]:
    """Answers of `embed`."""
    return ArrayOutputs(
        rows, lambda i: EmbeddingRequestOutput(outputs=EmbeddingOutput(data=rows[i]), **call.facts(i))
    )


def sparse_outputs(
    call: Call, terms: list[tuple[IntArray, FloatArray]], vocab_size: int
) -> RaggedOutputs[SparseEmbeddingRequestOutput]:
    """Answers of `embed_sparse`.

    Args:
        call: what was asked.
        terms: token ids and weights of each prompt.
        vocab_size: size of the dense row.
    """

    def make(i: int) -> SparseEmbeddingRequestOutput:
        token_ids, weights = terms[i]
        embedding = SparseEmbeddingOutput(token_ids=token_ids, weights=weights, vocab_size=vocab_size)
        return SparseEmbeddingRequestOutput(outputs=embedding, **call.facts(i))

    return RaggedOutputs([weights for _, weights in terms], make)


def classification_outputs(
    call: Call, rows: PromptRows, head: HeadSpec | None
) -> ArrayOutputs[ClassificationRequestOutput]:
    """Answers of `classify`."""
    labels = column_labels(head)

    def make(i: int) -> ClassificationRequestOutput:
        return ClassificationRequestOutput(
            outputs=ClassificationOutput(data=rows[i], labels=labels), **call.facts(i)
        )

    return ArrayOutputs(rows, make)


def scoring_outputs(scores: Scores, first_id: int) -> ArrayOutputs[ScoringRequestOutput]:
    """Answers of `score`, numbered from an id on."""

    def make(i: int) -> ScoringRequestOutput:
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

    return ArrayOutputs(scores.scores[:, 0], make)


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
