"""What the bundle and the checkpoint's own library are both asked: texts, for every task and verb of the bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
import numpy as np

from embedge import EdgeModel, PoolingParams
from embedge.errors import PromptError
from embedge.measure import count_tokens
from embedge.types import FloatArray
from embedge_export.source.checkpoint import Checkpoint, weight_sizes
from embedge_export.spec import ExportSpec
from embedge_export.texts.built_in import PAIRS, TEXTS
from embedge_export.verify.own_library import Door, Transformers

Rows: TypeAlias = Sequence[FloatArray] | FloatArray
"""One row or matrix per text or pair."""

_BATCH = 8
_SHORT_CHARS = 400
_LARGE_BYTES = 600e6
_NUM_TEXTS, _NUM_TEXTS_OF_LARGE = 24, 8
_FEW = 6
_LONGEST_TOKENS = 512
"""A text beyond the limit is asked where the limit is no larger: on two cores 8,192 tokens take a minute."""
_LONG_WORDS = "plants turn light, water and carbon dioxide into sugar and oxygen"
_POOLING_ONLY = {"Transformer", "MLMTransformer", "Pooling", "Normalize", "Dropout"}
_RAW = PoolingParams(use_activation=False)
_AS_IT_IS = PoolingParams(normalize=False)


class Question(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One thing that both are asked.

    Attributes:
        words: what it is.
        library: the library's answers, one per text.
        bundle: the bundle's.
    """

    words: str
    library: Callable[[], Rows]
    bundle: Callable[[], Rows]


class Both(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Who is asked.

    Attributes:
        door: class of the library.
        library: an instance of it.
        model: the bundle.
        checkpoint: what both were made of.
        spec: what the caller stated against its files.
    """

    door: Door
    library: Any
    model: EdgeModel
    checkpoint: Checkpoint
    spec: ExportSpec

    def texts(self) -> list[str]:
        """Those that leave the tokenizer a token, one of them beyond the limit."""
        size = sum(weight_sizes(self.checkpoint).values())
        most = _NUM_TEXTS if size < _LARGE_BYTES else _NUM_TEXTS_OF_LARGE
        short = [text for text in TEXTS if len(text) < _SHORT_CHARS]
        chosen = short[:: max(1, len(short) // most)]
        if self.model.info.max_seq_len <= _LONGEST_TOKENS:
            chosen.append(" ".join([_LONG_WORDS] * (self.model.info.max_seq_len // 6)))
        return [text for text in chosen if self._has_tokens(text)]

    def classified(self) -> list[str]:
        """Those that are not blank, and do not hold the padding token, which transformers' decoders take for padding."""
        return [text for text in self.texts() if text.strip() and not self._holds_padding(text)]

    def pairs(self) -> tuple[list[str], list[str]]:
        """Queries and documents, likewise."""
        chosen = [pair for pair in PAIRS if not self._holds_padding(pair[1])]
        chosen = chosen[:: max(1, len(chosen) // _NUM_TEXTS)]
        return [query for query, _ in chosen], [document for _, document in chosen]

    def _holds_padding(self, text: str) -> bool:
        padding = getattr(self.library.tokenizer, "pad_token", None)
        return padding is not None and str(padding) in text

    def _has_tokens(self, text: str) -> bool:
        try:
            return int(count_tokens(self.model, [text])[0]) > 0
        except PromptError:
            return False


def questions(both: Both) -> Iterator[Question]:
    """Everything that both can be asked."""
    return _QUESTIONS.get(both.door.name, _of_hidden_states)(both)


def _of_sentence_transformer(both: Both) -> Iterator[Question]:
    library, model, texts = both.library, both.model, both.texts()

    def embedded(asked: Sequence[str], **prompt: str) -> Rows:
        return _unit(both, library.encode(list(asked), show_progress_bar=False, batch_size=_BATCH, **prompt))

    def ours(asked: Sequence[str], **prompt: Any) -> Rows:
        return _unit(both, model.embed(asked, **prompt).numpy())

    if not both.spec.pooling:
        yield from _with_prompts(both, "embed", texts, embedded, ours)
        yield from _similarities(both, texts[: 2 * _FEW], embedded, ours)
    if "token_embed" in model.manifest.tasks and {type(each).__name__ for each in library} <= _POOLING_ONLY:
        few = texts[: 2 * _FEW]
        yield Question(
            words="token_embed",
            library=lambda: [
                library.encode(
                    text, output_value="token_embeddings", prompt="", show_progress_bar=False
                ).numpy()
                for text in few
            ],
            bundle=lambda: _token_rows(model, few),
        )


def _of_sparse_encoder(both: Both) -> Iterator[Question]:
    library, model, texts = both.library, both.model, both.texts()

    def embedded(asked: Sequence[str], **prompt: str) -> Rows:
        options = {"show_progress_bar": False, "batch_size": _BATCH, "convert_to_sparse_tensor": False}
        return library.encode(list(asked), **options, **prompt).numpy()

    def ours(asked: Sequence[str], **prompt: Any) -> Rows:
        return model.embed(asked, **prompt).numpy()

    yield from _with_prompts(both, "embed", texts, embedded, ours)
    few = texts[:_FEW]
    yield Question(
        words="embed_sparse",
        library=partial(embedded, few),
        bundle=lambda: [output.outputs.data for output in model.embed_sparse(few)],
    )
    yield from _similarities(both, texts[: 2 * _FEW], embedded, ours)


def _of_static_model(both: Both) -> Iterator[Question]:
    texts = both.texts()
    yield Question(
        words="embed",
        library=lambda: _unit(both, both.library.encode(texts, use_multiprocessing=False)),
        bundle=lambda: _unit(both, both.model.embed(texts).numpy()),
    )


def _of_multi_vector_encoder(both: Both) -> Iterator[Question]:
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
        bundle=lambda: model.score(queries, documents).numpy(),
    )
    few = documents[:_FEW]
    by_document = partial(scores, [queries[0]] * len(few), few)
    yield Question(
        words="rerank",
        library=lambda: _ranked(np.asarray(by_document())[:, 0]),
        bundle=lambda: _reranked(model, queries[0], few, np.asarray(by_document())[:, 0]),
    )


def _of_cross_encoder(both: Both) -> Iterator[Question]:
    import torch

    library, model = both.library, both.model
    queries, documents = both.pairs()
    pairs = list(zip(queries, documents, strict=True))
    instruction = {} if both.spec.instruction is None else {"prompt": both.spec.instruction}

    def predicted(asked: Sequence[tuple[str, str]], **options: Any) -> Rows:
        rows = library.predict(
            list(asked), show_progress_bar=False, batch_size=_BATCH, **instruction | options
        )
        return np.asarray(rows).reshape(len(asked), -1)

    yield Question(
        words="score",
        library=lambda: predicted(pairs),
        bundle=lambda: model.score(queries, documents).numpy(),
    )
    yield Question(
        words="score without activation",
        library=lambda: predicted(pairs, activation_fn=torch.nn.Identity()),
        bundle=lambda: model.score(queries, documents, pooling_params=_RAW).numpy(),
    )
    for name, text in both.checkpoint.prompts.items():
        ours: dict[str, Any] = (
            {"instruction": text} if model.manifest.template else {"query_prompt_name": name}
        )
        yield Question(
            words=f"score with prompt {name!r}",
            library=partial(predicted, pairs[:_FEW], prompt=text),
            bundle=lambda ours=ours: model.score(queries[:_FEW], documents[:_FEW], **ours).numpy(),  # type: ignore[misc]
        )
    few = documents[:_FEW]
    together = [(queries[0], document) for document in few]
    yield Question(
        words="rerank",
        library=lambda: _library_ranked(
            library.rank(queries[0], few, show_progress_bar=False, **instruction)
        ),
        bundle=lambda: _reranked(model, queries[0], few, np.asarray(predicted(together))[:, 0]),
    )
    if "classify" in model.manifest.tasks and type(library.model).__name__.endswith("Classification"):
        yield _classified(both, library.model, library.tokenizer, {"truncation": True})


def _of_sequence_classification(both: Both) -> Iterator[Question]:
    library: Transformers = both.library
    model, texts = both.model, both.classified()
    queries, documents = both.pairs()
    bias = (both.checkpoint.head.logit_bias if both.checkpoint.head else None) or 0.0
    yield Question(
        words="classify without activation",
        library=lambda: [library.rows(text)[0][0] - bias for text in texts],
        bundle=lambda: model.classify(texts, pooling_params=_RAW).numpy(),
    )
    together: list[Any] = [
        {"text": query, "text_pair": document} for query, document in zip(queries, documents, strict=True)
    ]
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
            bundle=lambda: model.score(queries, documents, pooling_params=_RAW).numpy(),
        )


def _of_token_classification(both: Both) -> Iterator[Question]:
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


def _of_hidden_states(both: Both) -> Iterator[Question]:
    library: Transformers = both.library
    texts = both.texts()
    yield Question(
        words="token_embed",
        library=lambda: [library.rows(text)[0] for text in texts],
        bundle=lambda: _token_rows(both.model, texts),
    )


_QUESTIONS: Mapping[str, Callable[[Both], Iterator[Question]]] = MappingProxyType(
    {
        "AutoModelForSequenceClassification": _of_sequence_classification,
        "AutoModelForTokenClassification": _of_token_classification,
        "CrossEncoder": _of_cross_encoder,
        "MultiVectorEncoder": _of_multi_vector_encoder,
        "SentenceTransformer": _of_sentence_transformer,
        "SparseEncoder": _of_sparse_encoder,
        "StaticModel": _of_static_model,
    }
)
"""By the door's class; every other class of transformers gives hidden states."""


def _with_prompts(
    both: Both, words: str, texts: Sequence[str], library: Callable[..., Rows], bundle: Callable[..., Rows]
) -> Iterator[Question]:
    """Without a word about prompts, without one, and with each that is stored."""
    yield Question(words=words, library=partial(library, texts), bundle=partial(bundle, texts))
    few = texts[:_FEW]
    if both.checkpoint.default_prompt_name is not None:
        yield Question(
            words=f"{words} without prompt",
            library=partial(library, few, prompt=""),
            bundle=partial(bundle, few, prompt=""),
        )
    for name in both.checkpoint.prompts:
        yield Question(
            words=f"{words} with prompt {name!r}",
            library=partial(library, few, prompt_name=name),
            bundle=partial(bundle, few, prompt_name=name),
        )


def _similarities(
    both: Both, texts: Sequence[str], library: Callable[..., Rows], bundle: Callable[..., Rows]
) -> Iterator[Question]:
    """How the checkpoint compares embeddings; and score, which is always their cosine."""
    half = len(texts) // 2
    first, second = list(texts[:half]), list(texts[half : 2 * half])
    stated = both.model.manifest.similarity
    yield Question(
        words=f"similarity ({stated})",
        library=lambda: np.asarray(both.library.similarity(library(first), library(second))),
        bundle=lambda: _SIMILARITIES[stated](np.asarray(bundle(first)), np.asarray(bundle(second))),
    )
    written = [(a, b) for a, b in zip(first, second, strict=True) if a.strip() and b.strip()]
    if getattr(both.library, "similarity_fn_name", None) == "cosine" and written:
        queries, documents = ([pair[side] for pair in written] for side in (0, 1))
        yield Question(
            words="score",
            library=lambda: np.diag(
                np.asarray(both.library.similarity(library(queries), library(documents)))
            ).reshape(-1, 1),
            bundle=lambda: both.model.score(queries, documents).numpy(),
        )


_SIMILARITIES: Mapping[str, Callable[[FloatArray, FloatArray], FloatArray]] = MappingProxyType(
    {
        "cosine": lambda a, b: _of_unit_length(a) @ _of_unit_length(b).T,
        "dot": lambda a, b: a @ b.T,
        "euclidean": lambda a, b: -np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)),
        "manhattan": lambda a, b: -np.abs(a[:, None] - b[None]).sum(-1),
    }
)


def _classified(both: Both, network: Any, tokenizer: Any, cut: Mapping[str, Any]) -> Question:
    """Labels by name and their probabilities, as transformers' pipeline gives them."""
    import transformers

    texts = both.classified()[: 2 * _FEW]
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


def _token_rows(model: EdgeModel, texts: Sequence[str]) -> Rows:
    return model.encode(texts, _AS_IT_IS, pooling_task="token_embed", prompt="").numpy()


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


def _unit(both: Both, rows: Any) -> Rows:
    """Where the caller decides about the length of embeddings, only their direction is the checkpoint's."""
    return np.asarray(rows) if both.spec.normalize is None else _of_unit_length(np.asarray(rows))


def _of_unit_length(rows: FloatArray) -> FloatArray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
