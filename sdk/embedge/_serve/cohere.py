"""Requests as Cohere's clients send them: /v1/rerank and /v2/rerank."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from embedge._serve.models import Answer, Models, check_number
from embedge._serve.options import ServeOptions
from embedge._serve.refusals import Refusal


class Document(msgspec.Struct, frozen=True):
    """A document as an object, with other fields beside its text."""

    text: str


class RerankRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Body of /v1/rerank and /v2/rerank.

    Attributes:
        query: to rank for.
        documents: texts, or objects with one.
        model: name of a served bundle; None takes the first that scores.
        top_n: results to return; None returns all.
        return_documents: whether results have their documents' text.
        max_tokens_per_doc: taken where it cuts nothing, as pairs are cut to the model's limit.
        priority: taken and passed over.
    """

    query: str
    documents: list[str | Document]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool = False
    max_tokens_per_doc: int | None = None
    priority: int | None = None


async def rerank(request: RerankRequest, models: Models, options: ServeOptions) -> Answer:
    """Rank, the best first; pairs beyond the model's limit are cut, as Cohere's are."""
    model = models.asked(request.model, "score")
    check_number(request.documents, "documents", options.max_inputs)
    limit = model.info.max_seq_len
    if request.max_tokens_per_doc is not None and request.max_tokens_per_doc < limit:
        raise Refusal(
            "value",
            f"max_tokens_per_doc={request.max_tokens_per_doc} is not offered; expected {limit} or more, as query and "
            f"document together are cut to the model's {limit} tokens. Leave it out",
        )
    if request.top_n is not None and request.top_n < 1:
        raise Refusal("value", f"top_n={request.top_n} is not possible; expected 1 or more")
    texts = [each if isinstance(each, str) else each.text for each in request.documents]
    ranked = await model.arerank(request.query, texts, request.top_n, truncate_prompt_tokens=-1)
    results: list[dict[str, Any]] = [
        {"index": result.index, "relevance_score": result.score}
        | ({"document": {"text": result.document}} if request.return_documents else {})
        for result in ranked
    ]
    body = {"id": str(uuid.uuid4()), "results": results, "meta": {"api_version": {"version": "2"}}}
    return Answer(body=body, model=model.info.name, num_inputs=len(texts))
