"""What embedders are asked: embeddings, dense and sparse, and the rows of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from embedge import EdgeModel, PoolingParams
from embedge.measure import count_tokens
from embedge.types import FloatArray
from embedge_export.texts.built_in import INSTRUCTION
from embedge_export.verify.witness.library import Transformers
from embedge_export.verify.witness.question import ALONE, Both, Question, Rows

_AS_IT_IS = PoolingParams(normalize=False)


def ask_sentence_transformer(both: Both) -> Iterator[Question]:
    """Embeddings, with every prompt; their similarity; the rows of tokens."""
    model, texts = both.model, both.texts()

    def embedded(asked: Sequence[str], **prompt: str) -> Rows:
        return _unit(both, both.encode(list(asked), show_progress_bar=False, batch_size=ALONE, **prompt))

    def ours(asked: Sequence[str], **prompt: Any) -> Rows:
        return _unit(both, model.embed(asked, **prompt).numpy())

    if not both.spec.pooling:
        yield from _with_prompts(both, "embed", texts, embedded, ours)
        yield from _sides(both, texts[: both.few])
        yield from _similarities(both, texts[: 2 * both.few], embedded, ours)
    yield from _limit(both)
    # the library has no rows of tokens of a table
    if "token_embed" in model.manifest.tasks and both.checkpoint.kind != "static":
        few = texts[: 2 * both.few]
        yield Question(
            words="token_embed",
            library=lambda: [
                both.encode(text, output_value="token_embeddings", prompt="", show_progress_bar=False).numpy()
                for text in few
            ],
            bundle=lambda: _token_rows(model, few),
        )


def ask_sparse_encoder(both: Both) -> Iterator[Question]:
    """Weights of terms, dense and sparse."""
    model, texts = both.model, both.texts()

    def embedded(asked: Sequence[str], **prompt: str) -> Rows:
        options = {"show_progress_bar": False, "batch_size": ALONE, "convert_to_sparse_tensor": False}
        return both.encode(list(asked), **options, **prompt).numpy()

    def ours(asked: Sequence[str], **prompt: Any) -> Rows:
        return model.embed(asked, **prompt).numpy()

    yield from _with_prompts(both, "embed", texts, embedded, ours)
    few = texts[: both.few]
    yield Question(
        words="embed_sparse",
        library=partial(embedded, few),
        bundle=lambda: [output.outputs.data for output in model.embed_sparse(few)],
    )
    yield from _similarities(both, texts[: 2 * both.few], embedded, ours)
    yield from _limit(both)


def ask_static_model(both: Both) -> Iterator[Question]:
    """Embeddings of model2vec."""
    texts = both.texts()
    yield Question(
        words="embed",
        library=lambda: _unit(both, both.library.encode(texts, use_multiprocessing=False)),
        bundle=lambda: _unit(both, both.model.embed(texts).numpy()),
    )


def ask_hidden_states(both: Both) -> Iterator[Question]:
    """Rows of tokens: nothing in the checkpoint says how they become an embedding."""
    library: Transformers = both.library
    texts = both.texts()
    yield Question(
        words="token_embed",
        library=lambda: [library.rows(text)[0] for text in texts],
        bundle=lambda: _token_rows(both.model, texts),
    )


def _with_prompts(
    both: Both, words: str, texts: Sequence[str], library: Callable[..., Rows], bundle: Callable[..., Rows]
) -> Iterator[Question]:
    """Without a word about prompts, without one, and with each that is stored."""
    yield Question(words=words, library=partial(library, texts), bundle=partial(bundle, texts))
    few = texts[: both.few]
    if both.checkpoint.default_prompt_name is not None:
        yield Question(
            words=f"{words} without prompt",
            library=partial(library, few, prompt=""),
            bundle=partial(bundle, few, prompt=""),
        )
    if both.model.info.prefix_cache_bytes and both.checkpoint.message is None:
        yield Question(
            words=f"{words} after an instruction",
            library=partial(library, few, prompt=INSTRUCTION),
            bundle=partial(bundle, few, prompt=INSTRUCTION),
        )
    for name in both.checkpoint.prompts:
        yield Question(
            words=f"{words} with prompt {name!r}",
            library=partial(library, few, prompt_name=name),
            bundle=partial(bundle, few, prompt_name=name),
        )


def _sides(both: Both, texts: Sequence[str]) -> Iterator[Question]:
    """As queries and as documents, for which the library and the bundle choose a stored prompt each by itself."""
    sides = (("query", both.model.embed_query), ("document", both.model.embed_document))
    for side, ours in sides:
        if not both.checkpoint.prompts or both.checkpoint.tower not in (None, side):
            continue
        encode = getattr(both.library, f"encode_{side}")
        yield Question(
            words=f"embed_{side}",
            library=partial(_encoded, both, encode, texts),
            bundle=partial(_embedded, both, ours, texts),
        )


def _encoded(both: Both, encode: Callable[..., Any], texts: Sequence[str]) -> Rows:
    return _unit(both, encode(list(texts), show_progress_bar=False, batch_size=ALONE))


def _embedded(both: Both, embed: Callable[..., Any], texts: Sequence[str]) -> Rows:
    return _unit(both, embed(texts).numpy())


def _limit(both: Both) -> Iterator[Question]:
    """How many tokens are left of a text beyond a limit that takes too long to compute."""
    if both.is_too_long_to_compute:
        text, library = both.too_long(), both.library
        tokenise = library.preprocess if hasattr(library, "preprocess") else library.tokenize
        yield Question(
            words="tokens of a long text",
            library=lambda: [np.array([tokenise([text], **both.route)["input_ids"].shape[-1]])],
            bundle=lambda: [np.asarray(count_tokens(both.model, [text]))],
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
        bundle=lambda: both.model.similarity(bundle(first), bundle(second)),
    )
    written = [(a, b) for a, b in zip(first, second, strict=True) if a.strip() and b.strip()]
    scores = both.checkpoint.tower is None  # a tower has one side of a pair
    if scores and getattr(both.library, "similarity_fn_name", None) == "cosine" and written:
        queries, documents = ([pair[side] for pair in written] for side in (0, 1))
        yield Question(
            words="score",
            library=lambda: np.diag(
                np.asarray(both.library.similarity(library(queries), library(documents)))
            ),
            bundle=lambda: both.model.score(queries, documents).numpy(),
        )


def _token_rows(model: EdgeModel, texts: Sequence[str]) -> Rows:
    return model.encode(texts, _AS_IT_IS, pooling_task="token_embed", prompt="").numpy()


def _unit(both: Both, rows: Any) -> Rows:
    """Where the caller decides about the length of embeddings, only their direction is the checkpoint's."""
    return np.asarray(rows) if both.spec.normalize is None else _of_unit_length(np.asarray(rows))


def _of_unit_length(rows: FloatArray) -> FloatArray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
