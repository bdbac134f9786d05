"""What rerankers and classifiers are asked: scores, orders, logits and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from embedge import EdgeModel, PoolingParams
from embedge.types import FloatArray
from embedge_export.verify.witness.library import Transformers
from embedge_export.verify.witness.question import ALONE, Both, Question, Rows

_RAW = PoolingParams(use_activation=False)


def ask_multi_vector_encoder(both: Both) -> Iterator[Question]:
    """MaxSim of queries and documents, and their order."""
    library, model = both.library, both.model
    queries, documents = both.pairs()

    def scores(queries: Sequence[str], documents: Sequence[str]) -> Rows:
        asked = [library.encode_query(text, show_progress_bar=False) for text in queries]
        rows = [library.encode_document(text, show_progress_bar=False) for text in documents]
        return np.array(
            [np.asarray(library.similarity([a], [b])).ravel() for a, b in zip(asked, rows, strict=True)]
        )

    yield Question(
        words="score",
        library=lambda: scores(queries, documents),
        bundle=lambda: _scored(model, queries, documents),
    )
    few = documents[: both.few]
    by_document = partial(scores, [queries[0]] * len(few), few)
    yield Question(
        words="rerank",
        library=lambda: _ranked(np.asarray(by_document())[:, 0]),
        bundle=lambda: _reranked(model, queries[0], few, np.asarray(by_document())[:, 0]),
    )


def ask_cross_encoder(both: Both) -> Iterator[Question]:
    """Scores with every prompt, and their order; of several labels, the logits. Labels where it has a classifier."""
    library, model = both.library, both.model
    queries, documents = both.pairs()
    if "score" in model.manifest.tasks:
        yield from _scores(both, queries, documents)
    if "classify" in model.manifest.tasks:
        pairs = _as_prompts(queries, documents)
        yield Question(
            words="classify pairs without activation",
            library=lambda: _predicted(both, queries, documents, activation_fn=_identity()),
            bundle=lambda: model.classify(pairs, pooling_params=_RAW).numpy(),
        )
        # transformers' pipeline knows nothing of prompts
        has_classifier = type(library.model).__name__.endswith("Classification")
        if has_classifier and model.manifest.default_prompt_name is None:
            yield _classified(both, library.model, library.tokenizer, {"truncation": True})


def _scores(both: Both, queries: list[str], documents: list[str]) -> Iterator[Question]:
    library, model, few = both.library, both.model, documents[: both.few]
    yield Question(
        words="score",
        library=lambda: _predicted(both, queries, documents),
        bundle=lambda: _scored(model, queries, documents),
    )
    yield Question(
        words="score without activation",
        library=lambda: _predicted(both, queries, documents, activation_fn=_identity()),
        bundle=lambda: _scored(model, queries, documents, pooling_params=_RAW),
    )
    if model.info.prefix_cache_bytes:
        yield Question(
            words="score of one query with documents",
            library=partial(_predicted, both, [queries[0]] * len(few), few, activation_fn=_identity()),
            bundle=lambda: model.score(queries[0], few, pooling_params=_RAW).numpy()[:, None],
        )
    for name in both.checkpoint.prompts:
        yield Question(
            words=f"score with prompt {name!r}",
            library=partial(_predicted, both, queries[: both.few], few, prompt_name=name),
            bundle=partial(_scored, model, queries[: both.few], few, query_prompt_name=name),
        )
    yield Question(
        words="rerank",
        library=lambda: _library_ranked(
            library.rank(queries[0], few, show_progress_bar=False, **_instruction(both))
        ),
        bundle=lambda: _reranked(
            model, queries[0], few, np.asarray(_predicted(both, [queries[0]] * len(few), few))[:, 0]
        ),
    )


def _predicted(both: Both, queries: Sequence[str], documents: Sequence[str], **options: Any) -> Rows:
    pairs = list(zip(queries, documents, strict=True))
    if "prompt_name" not in options:
        options |= _instruction(both)
    rows = both.library.predict(pairs, show_progress_bar=False, batch_size=ALONE, **options)
    return np.asarray(rows).reshape(len(pairs), -1)


def _instruction(both: Both) -> dict[str, str]:
    """The caller's own, which stands for the checkpoint's default prompt."""
    return {} if both.spec.instruction is None else {"prompt": both.spec.instruction}


def _identity() -> Any:
    import torch

    return torch.nn.Identity()


def _scored(model: EdgeModel, queries: list[str], documents: list[str], **options: Any) -> Rows:
    """A row of one score for each pair."""
    return model.score(queries, documents, **options).numpy()[:, None]


def _as_prompts(queries: Sequence[str], documents: Sequence[str]) -> list[Any]:
    """Pairs in the form that classify takes."""
    return [{"text": a, "text_pair": b} for a, b in zip(queries, documents, strict=True)]


def ask_sequence_classification(both: Both) -> Iterator[Question]:
    """Logits of texts and pairs, and labels with their probabilities."""
    library: Transformers = both.library
    model, texts = both.model, both.classified()
    queries, documents = both.pairs()
    bias = (both.checkpoint.head.logit_bias if both.checkpoint.head else None) or 0.0
    yield Question(
        words="classify without activation",
        library=lambda: [library.rows(text)[0][0] - bias for text in texts],
        bundle=lambda: model.classify(texts, pooling_params=_RAW).numpy(),
    )
    together = _as_prompts(queries, documents)
    yield Question(
        words="classify pairs without activation",
        library=lambda: [
            library.rows(query, document)[0][0] - bias
            for query, document in zip(queries, documents, strict=True)
        ],
        bundle=lambda: model.classify(together, pooling_params=_RAW).numpy(),
    )
    if not bias:
        yield _classified(both, library.model, library.tokenizer, library.cut)
    if "score" in model.manifest.tasks:
        yield Question(
            words="score without activation",
            library=lambda: [
                library.rows(query, document)[0][0] - bias
                for query, document in zip(queries, documents, strict=True)
            ],
            bundle=lambda: _scored(model, queries, documents, pooling_params=_RAW),
        )


def ask_token_classification(both: Both) -> Iterator[Question]:
    """Logits of tokens, or of steps."""
    library: Transformers = both.library
    model, texts = both.model, [text for text in both.texts() if text.strip()]
    bias = (both.checkpoint.head.logit_bias if both.checkpoint.head else None) or 0.0
    tag = both.checkpoint.step_tag
    if tag is not None:
        texts = [f"{text} {tag} {text[:20]}{tag}" for text in texts[:-1]]

    def rows(text: str) -> FloatArray:
        answers, token_ids = library.rows(text)
        if tag is not None:
            wanted = library.tokenizer.convert_tokens_to_ids(tag)
            answers = answers[[index for index, token in enumerate(token_ids) if token == wanted]]
        return answers - bias

    yield Question(
        words="token_classify without activation",
        library=lambda: [rows(text) for text in texts],
        bundle=lambda: model.encode(texts, _RAW, pooling_task="token_classify").numpy(),
    )


def _classified(both: Both, network: Any, tokenizer: Any, cut: Mapping[str, Any]) -> Question:
    """Labels by name and their probabilities, as transformers' pipeline gives them."""
    import transformers

    texts = both.classified()[: 2 * both.few]
    names = both.checkpoint.head.labels if both.checkpoint.head else ()
    # the caller's own names, and names that occur twice, say nothing about the order
    named = not both.spec.labels and len(set(names)) == len(names)

    def library() -> Rows:
        pipeline = transformers.pipeline("text-classification", model=network, tokenizer=tokenizer)
        rows = []
        for each in pipeline(texts, top_k=None, **cut):
            by_name = {entry["label"]: entry["score"] for entry in each}
            rows.append(
                [by_name[name] for name in names] if named else sorted(entry["score"] for entry in each)
            )
        return np.array(rows)

    def bundle() -> Rows:
        rows: FloatArray = both.model.classify(texts).numpy()
        return rows if named else np.sort(rows, axis=1)

    return Question(words="classify", library=library, bundle=bundle)


def _ranked(scores: FloatArray) -> Rows:
    """The library's half of a comparison of orders: its scores from the best on, twice."""
    best_first = np.sort(scores)[::-1]
    return [best_first, best_first]


def _library_ranked(ranked: Sequence[Mapping[str, Any]]) -> Rows:
    best_first = np.array([float(entry["score"]) for entry in ranked])
    return [best_first, best_first]


def _reranked(model: EdgeModel, query: str, documents: Sequence[str], scores: FloatArray) -> Rows:
    """The bundle's half: its scores from the best on, and the library's of the same documents in the same order."""
    results = model.rerank(query, documents)
    return [np.array([result.score for result in results]), scores[[result.index for result in results]]]
