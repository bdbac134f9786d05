"""Scores of query and document: cross-encoders, bi-encoders, late interaction, LLM rerankers.

Source: vLLM v0.13 `LLM.score`; PyLate and ColBERT for MaxSim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from embedge._calls.leading import lead_of, lead_of_pairs
from embedge._calls.naming import naming
from embedge._calls.options import CallOptions, PairOptions
from embedge._calls.resolve import check_instructed, prompt_of, stored_prompt
from embedge._engine.engine import Engine
from embedge._rows.gathering import OnDone
from embedge._rows.heads import cut_and_normalize
from embedge._rows.resolved import ResolvedParams
from embedge._text.pairs import encode_late, encode_pairs
from embedge._text.prompts import parse_prompts
from embedge._text.templated_pairs import encode_template
from embedge._text.tokens import Encoded
from embedge.errors import ParamsError, PromptError
from embedge.manifest import Manifest
from embedge.types import FloatArray

ItemT = TypeVar("ItemT")


class Scores(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Scores of pairs.

    Attributes:
        scores: float32 (num_pairs, 1).
        order_by: float64 (num_pairs,); larger is better. Logits where there are any, so that scores that round
            to 1.0 keep their order.
        pairs: tokens of each pair: one sequence, or query and document apart.
    """

    scores: FloatArray
    order_by: np.ndarray[Any, np.dtype[np.float64]]
    pairs: Sequence[tuple[Encoded, ...]]


def parse_pairs(data_1: Any, data_2: Any) -> tuple[list[str], list[str]]:
    """Texts of both sides, the query repeated for 1:N.

    Raises:
        ValueError: as PromptError; lengths that do not fit, a side that is no text or is empty.
    """
    queries, documents = _texts(data_1, "text"), _texts(data_2, "text_pair")
    if len(queries) > 1 and len(queries) != len(documents):
        raise PromptError("Input lengths must be either 1:1, 1:N or N:N")
    if not queries:
        raise PromptError("At least one text element must be given")
    if not documents:
        raise PromptError("At least one text_pair element must be given")
    for name, side in (("query", queries), ("document", documents)):
        for index, text in enumerate(side):
            if not text.strip():
                raise PromptError(f"{name} {index} is empty; expected text to score", index=index)
    return queries, documents


def score_pairs(
    engine: Engine,
    queries: list[str],
    documents: list[str],
    params: Sequence[ResolvedParams],
    limits: Sequence[int | None],
    options: PairOptions,
    on_done: OnDone,
) -> Scores:
    """Score pairs the way the bundle's model does it.

    Args:
        engine: the loaded model.
        queries: one for all documents, or one per document.
        documents: one per pair.
        params: resolved, one per pair.
        limits: truncate_prompt_tokens, one per pair.
        options: the call's; its parameters and limit are those above.
        on_done: called with the number of finished pairs.
    """
    manifest = engine.manifest
    _check_options(manifest, options)
    if manifest.late_interaction is not None:
        if any(limit not in (None, -1) for limit in limits):
            raise ParamsError(
                f"bundle {manifest.name!r} cuts queries to {manifest.late_interaction.query_len} tokens and documents "
                f"to {manifest.late_interaction.document_len}, as its checkpoint states; "
                "leave truncate_prompt_tokens out"
            )
        return _late_scores(engine, queries, documents, params, on_done)
    if manifest.embedding_size is not None:
        return _cosine_scores(engine, queries, documents, params, limits, options, on_done)
    query_prompt = stored_prompt(manifest, options.query_prompt_name)
    each_query = _repeated(queries, documents)
    if manifest.template is None:
        prompted = [query_prompt + query for query in each_query] if query_prompt else each_query
        encoded = encode_pairs(engine.tokenizer, prompted, documents, limits, options.truncate)
        lead: Sequence[int] = ()
    else:
        instruction = options.instruction
        if instruction is None and options.query_prompt_name is not None:
            instruction = query_prompt
        encoded = encode_template(
            engine.tokenizer, manifest.template, each_query, documents, limits, instruction
        )
        shared = queries[0] if len(queries) == 1 else None
        lead = lead_of_pairs(engine, manifest.template, shared, instruction)
    return score_encoded(engine, encoded, params, on_done, lead)


def _check_options(manifest: Manifest, options: PairOptions) -> None:
    """Refuse what a call asks for and this kind of bundle has no place for."""
    if manifest.tower is not None and not {"query", "document"} <= {manifest.tower, *manifest.towers}:
        raise ParamsError(
            f"bundle {manifest.name!r} is the {manifest.tower} tower of a model that embeds queries and documents "
            "apart, so it scores no pairs; embed each side with the bundle of its own tower, and compare the embeddings"
        )
    if options.instruction is not None and manifest.template is None:
        raise ParamsError(
            f"bundle {manifest.name!r} has no template, so it takes no instruction; leave it out"
        )
    if options.instruction and manifest.template is not None:
        check_instructed(manifest, manifest.template)
        if options.query_prompt_name is not None:
            raise ParamsError("instruction and query_prompt_name are both given; expected one of them")
    if manifest.late_interaction is not None and options.query_prompt_name is not None:
        raise ParamsError(
            f"bundle {manifest.name!r} marks queries and documents by tokens of its own and takes no stored prompt; "
            "leave query_prompt_name out"
        )
    if manifest.embedding_size is None and options.document_prompt_name is not None:
        raise ParamsError(
            f"bundle {manifest.name!r} reads query and document together, with a prompt before the query only; "
            "leave document_prompt_name out"
        )


def score_encoded(
    engine: Engine,
    encoded: Sequence[Encoded],
    params: Sequence[ResolvedParams],
    on_done: OnDone,
    lead: Sequence[int] = (),
) -> Scores:
    """Score sequences that hold both sides already; lead as of Answerer.embeddings."""
    logits = engine.answerer.logits(encoded, on_done, lead)
    if len(encoded) and logits.shape[1] != 1:
        raise ParamsError(
            f"bundle {engine.manifest.name!r} has {logits.shape[1]} labels; a score needs one. Use classify instead."
        )
    return Scores(
        scores=engine.answerer.probabilities(logits, params, for_score=True),
        order_by=logits[:, 0].astype(np.float64),
        pairs=[(e,) for e in encoded],
    )


def max_sim(query_rows: FloatArray, document_rows: FloatArray) -> float:
    """Sum over query tokens of the largest dot product over document tokens.

    Args:
        query_rows: float32 (num_query_tokens, dim).
        document_rows: float32 (num_document_tokens, dim).
    """
    return float((query_rows @ document_rows.T).max(axis=1).sum(dtype=np.float64))


def _cosine_scores(
    engine: Engine,
    queries: list[str],
    documents: list[str],
    params: Sequence[ResolvedParams],
    limits: Sequence[int | None],
    options: PairOptions,
    on_done: OnDone,
) -> Scores:
    for_queries, for_documents = _sides(engine)
    query_prompt = _side_prompt(for_queries, "query", options.query_prompt_name)
    document_prompt = _side_prompt(for_documents, "document", options.document_prompt_name)
    if len(set(limits)) > 1:
        # each pair cuts its query by its own limit
        queries = _repeated(queries, documents)
    with naming("query"):
        first = for_queries.tokenizer.encode(queries, limits[: len(queries)], stored_prompt=query_prompt)
    with naming("document"):
        second = for_documents.tokenizer.encode(documents, limits, stored_prompt=document_prompt)
    # whole rows first: the documents of one query may ask for different sizes, and cosine takes unit vectors
    whole = [msgspec.structs.replace(p, dimensions=None, truncate_dim=None, normalize=False) for p in params]
    with naming("query"):
        query_lead = lead_of(for_queries, query_prompt)
        query_rows = for_queries.answerer.embeddings(first, whole[: len(first)], lambda _: None, query_lead)
    with naming("document"):
        document_lead = lead_of(for_documents, document_prompt)
        document_rows = for_documents.answerer.embeddings(second, whole, on_done, document_lead)
    partners = _repeated(list(range(len(first))), documents)
    cosines = np.array(
        [
            _dot(*(cut_and_normalize(row, p.size, normalize=True) for row in (query_rows[i], document_row)))
            for i, document_row, p in zip(partners, document_rows, params, strict=True)
        ],
        dtype=np.float64,
    )
    return Scores(
        scores=cosines.astype(np.float32)[:, None],
        order_by=cosines,
        pairs=[(first[i], second[k]) for k, i in enumerate(partners)],
    )


def _sides(engine: Engine) -> tuple[Engine, Engine]:
    """What embeds queries, and what embeds documents."""
    if engine.manifest.tower is None:
        return engine, engine
    return engine.of("query"), engine.of("document")


def _side_prompt(engine: Engine, side: str, name: str | None) -> str:
    """The text before each text of a side."""
    tower = None if engine.manifest.tower is None else side
    return prompt_of(engine.manifest, CallOptions(tower=tower, prompt_name=name))


def _dot(query: FloatArray, document: FloatArray) -> float:
    return float(np.dot(query.astype(np.float64), document.astype(np.float64)))


def _late_scores(
    engine: Engine,
    queries: list[str],
    documents: list[str],
    params: Sequence[ResolvedParams],
    on_done: OnDone,
) -> Scores:
    spec = engine.manifest.late_interaction
    assert spec is not None
    first = encode_late(engine.tokenizer, spec, queries, is_query=True)
    second = encode_late(engine.tokenizer, spec, documents, is_query=False)
    with naming("query"):
        query_rows = engine.answerer.whole_tokens(first, lambda _: None)
    with naming("document"):
        document_rows = engine.answerer.whole_tokens(second, on_done)
    skipped = np.asarray(spec.skip_token_ids)
    partners = _repeated(list(range(len(first))), documents)
    sims = []
    for k, (i, p) in enumerate(zip(partners, params, strict=True)):
        kept = document_rows[k][~np.isin(second[k].token_ids, skipped)]
        unit = [cut_and_normalize(rows, p.dimensions, normalize=True) for rows in (query_rows[i], kept)]
        sims.append(max_sim(*unit))
    values = np.asarray(sims, dtype=np.float64)
    return Scores(
        scores=values.astype(np.float32)[:, None],
        order_by=values,
        pairs=[(first[i], second[k]) for k, i in enumerate(partners)],
    )


def _repeated(side: list[ItemT], documents: Sequence[str]) -> list[ItemT]:
    """One item per document."""
    return side * len(documents) if len(side) == 1 else side


def _texts(data: Any, name: str) -> list[str]:
    texts = parse_prompts(data)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise PromptError(f"{name} {index} is a list of token ids; score takes texts", index=index)
    return [text for text in texts if isinstance(text, str)]
