"""The witness: a checkpoint asked through its own library's public door, by text, beside the bundle made of it.

What the export read from the checkpoint's files is not used here: the library reads the folder itself, as it does for
its users. So this finds what a reference that shares our reading cannot find.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge import EdgeModel, PoolingParams
from embedge.errors import EmbedgeError, VerificationError
from embedge.types import FloatArray
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.texts.built_in import PAIRS, TEXTS

_LIMIT = -1
"""truncate_prompt_tokens: cut at the model's limit, as the libraries do."""
_LONGEST_TOKENS = 512
"""A text beyond the limit is asked where the limit is no larger: on two cores 8,192 tokens take a minute."""
_LONG_WORDS = "plants turn light, water and carbon dioxide into sugar and oxygen"
_FEW = 24
_BATCH = 8
Rows = Sequence[FloatArray] | FloatArray


class Testimony(msgspec.Struct, frozen=True, kw_only=True):
    """What the witness said.

    Attributes:
        library: its name and version; None where none could be asked.
        asked: what both answered, in words.
        max_abs_diff: largest difference of any component.
        reason: why none could be asked.
    """

    library: str | None
    asked: tuple[str, ...] = ()
    max_abs_diff: float = 0.0
    reason: str | None = None


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


def call_witness(folder: Path, checkpoint: Checkpoint, gate: float) -> Testimony:
    """Ask the checkpoint's own library and the bundle's float32 graph the same texts, and compare.

    Args:
        folder: the bundle.
        checkpoint: where the library finds the checkpoint, and what kind it is.
        gate: largest difference that may be, of answers up to 1; of larger ones, in proportion.

    Raises:
        VerificationError: the bundle answers otherwise, or not at all.
    """
    asks = _WITNESSES.get(_library(checkpoint))
    if asks is None:
        return Testimony(library=None, reason="no library has a public door to this kind of checkpoint")
    package = _package(checkpoint)
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return Testimony(library=None, reason=f"{package} is not installed")
    worst, asked = 0.0, []
    with _silent(), EdgeModel(folder, device="cpu", variant="fp32", truncate_prompt_tokens=_LIMIT) as model:
        for question in asks(checkpoint, model):
            difference = _difference(question, gate, package)
            worst = max(worst, difference)
            asked.append(question.words)
    return Testimony(library=f"{package} {version}", asked=tuple(asked), max_abs_diff=worst)


def _difference(question: Question, gate: float, package: str) -> float:
    expected = [np.asarray(row, dtype=np.float64) for row in question.library()]
    try:
        actual = [np.asarray(row, dtype=np.float64) for row in question.bundle()]
    except EmbedgeError as error:
        raise VerificationError(
            f"the bundle cannot answer what {package} answers ({question.words}): {error}"
        ) from error
    worst = 0.0
    for index, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        if ours.shape != theirs.shape:
            raise VerificationError(
                f"the bundle is not the checkpoint: {question.words}, text {index}: its answer has the shape "
                f"{ours.shape}, {package}'s {theirs.shape}. Nothing was written. "
                "Please report this with the model's name."
            )
        difference = float(np.abs(ours - theirs).max(initial=0.0))
        if not difference <= gate * max(1.0, float(np.abs(theirs).max(initial=0.0))):
            raise VerificationError(
                f"the bundle is not the checkpoint: {question.words}, text {index} differs from {package}'s answer by "
                f"{difference:.3g}; expected at most {gate:g}. Nothing was written. Please report this with the "
                "model's name."
            )
        worst = max(worst, difference)
    return worst


def _library(checkpoint: Checkpoint) -> str:
    has_modules = (checkpoint.repository.folder / "modules.json").is_file()
    if checkpoint.kind == "static" and not has_modules:
        return "model2vec"
    if checkpoint.kind == "embedding":
        return "SentenceTransformer" if has_modules else "AutoModel"
    return {
        "static": "SentenceTransformer",
        "sparse": "SparseEncoder",
        "late_interaction": "MultiVectorEncoder",
        "causal_reranker": "CrossEncoder" if has_modules else "",
        "pooled_classifier": "CrossEncoder",
        "classifier": "CrossEncoder"
        if checkpoint.tasks[0] == "score"
        else "AutoModelForSequenceClassification",
        "token_classifier": "AutoModelForTokenClassification",
        "reward": "",
    }[checkpoint.kind]


def _package(checkpoint: Checkpoint) -> str:
    library = _library(checkpoint)
    if library == "model2vec":
        return "model2vec"
    return "transformers" if library.startswith("Auto") else "sentence-transformers"


def _texts(model: EdgeModel) -> list[str]:
    texts = [text for text in TEXTS if len(text) < 400][:: max(1, len(TEXTS) // _FEW)]
    if model.info.max_seq_len <= _LONGEST_TOKENS:
        texts.append(" ".join([_LONG_WORDS] * (model.info.max_seq_len // 6)))
    return texts


def _visible(model: EdgeModel) -> list[str]:
    """Those with a token beside the special ones, which some tokenizers do not add."""
    return [text for text in _texts(model) if text.strip()]


def _sentence_transformer(checkpoint: Checkpoint, model: EdgeModel) -> Iterator[Question]:
    library = _load("SentenceTransformer", checkpoint)
    texts = _texts(model) if checkpoint.kind != "static" else _visible(model)

    def rows(**prompt: str) -> Rows:
        answer: Rows = library.encode(texts, show_progress_bar=False, batch_size=_BATCH, **prompt)
        return answer

    yield Question(words="embed", library=rows, bundle=lambda: model.embed(texts).numpy())
    for name in checkpoint.prompts:
        yield Question(
            words=f"embed with prompt {name!r}",
            library=partial(rows, prompt_name=name),
            bundle=partial(_embedded, model, texts, name),
        )
    if checkpoint.kind == "embedding":
        yield Question(
            words="token_embed",
            library=lambda: [
                library.encode(text, output_value="token_embeddings", show_progress_bar=False).cpu().numpy()
                for text in texts
            ],
            bundle=lambda: model.encode(
                texts, PoolingParams(normalize=False), pooling_task="token_embed"
            ).numpy(),
        )


def _embedded(model: EdgeModel, texts: list[str], prompt_name: str) -> Rows:
    return model.embed(texts, prompt_name=prompt_name).numpy()


def _sparse_encoder(checkpoint: Checkpoint, model: EdgeModel) -> Iterator[Question]:
    library = _load("SparseEncoder", checkpoint)
    texts = _texts(model)
    yield Question(
        words="embed",
        library=lambda: (
            library.encode(texts, show_progress_bar=False, batch_size=_BATCH, convert_to_sparse_tensor=False)
            .cpu()
            .numpy()
        ),
        bundle=lambda: model.embed(texts).numpy(),
    )


def _multi_vector_encoder(checkpoint: Checkpoint, model: EdgeModel) -> Iterator[Question]:
    library = _load("MultiVectorEncoder", checkpoint)
    queries, documents = map(list, zip(*PAIRS, strict=True))

    def scores() -> Rows:
        asked = library.encode_query(queries, show_progress_bar=False, batch_size=1)
        answered = library.encode_document(documents, show_progress_bar=False, batch_size=1)
        return [
            np.asarray(library.similarity([query], [document]))[0]
            for query, document in zip(asked, answered, strict=True)
        ]

    yield Question(words="score", library=scores, bundle=lambda: model.score(queries, documents).numpy())


def _cross_encoder(checkpoint: Checkpoint, model: EdgeModel) -> Iterator[Question]:
    library = _load("CrossEncoder", checkpoint)
    queries, documents = map(list, zip(*PAIRS, strict=True))

    def predict(**prompt: str) -> Rows:
        rows = library.predict([*PAIRS], show_progress_bar=False, batch_size=_BATCH, **prompt)
        return np.asarray(rows).reshape(len(PAIRS), -1)

    if checkpoint.tasks[0] == "score":
        yield Question(words="score", library=predict, bundle=lambda: model.score(queries, documents).numpy())
        return
    pairs = [{"text": query, "text_pair": document} for query, document in PAIRS]
    yield Question(words="classify pairs", library=predict, bundle=lambda: model.classify(pairs).numpy())


def _classifier(checkpoint: Checkpoint, model: EdgeModel) -> Iterator[Question]:
    texts = _visible(model)
    raw = PoolingParams(use_activation=False)
    yield Question(
        words="classify without activation",
        library=lambda: [
            rows[0] for rows in _logits("AutoModelForSequenceClassification", checkpoint, texts)
        ],
        bundle=lambda: model.classify(texts, pooling_params=raw).numpy(),
    )


def _token_classifier(checkpoint: Checkpoint, model: EdgeModel) -> Iterator[Question]:
    texts = _visible(model)
    raw = PoolingParams(use_activation=False)
    yield Question(
        words="token_classify without activation",
        library=lambda: [rows[0] for rows in _logits("AutoModelForTokenClassification", checkpoint, texts)],
        bundle=lambda: model.encode(texts, raw, pooling_task="token_classify").numpy(),
    )


def _hidden_states(checkpoint: Checkpoint, model: EdgeModel) -> Iterator[Question]:
    texts = _visible(model)
    yield Question(
        words="token_embed",
        library=lambda: [rows[0] for rows in _logits("AutoModel", checkpoint, texts)],
        bundle=lambda: model.encode(
            texts, PoolingParams(normalize=False), pooling_task="token_embed", prompt=""
        ).numpy(),
    )


def _model2vec(checkpoint: Checkpoint, model: EdgeModel) -> Iterator[Question]:
    from model2vec import StaticModel

    library = StaticModel.from_pretrained(str(checkpoint.repository.folder))
    texts = _visible(model)
    yield Question(
        words="embed",
        library=lambda: library.encode(texts, use_multiprocessing=False),
        bundle=lambda: model.embed(texts).numpy(),
    )


_WITNESSES: dict[str, Callable[[Checkpoint, EdgeModel], Iterator[Question]]] = {
    "AutoModel": _hidden_states,
    "AutoModelForSequenceClassification": _classifier,
    "AutoModelForTokenClassification": _token_classifier,
    "CrossEncoder": _cross_encoder,
    "MultiVectorEncoder": _multi_vector_encoder,
    "SentenceTransformer": _sentence_transformer,
    "SparseEncoder": _sparse_encoder,
    "model2vec": _model2vec,
}


def _load(name: str, checkpoint: Checkpoint) -> Any:
    """A model of sentence-transformers, in float32 whatever the checkpoint's own precision."""
    import sentence_transformers

    return getattr(sentence_transformers, name)(
        str(checkpoint.repository.folder),
        device="cpu",
        trust_remote_code=checkpoint.trust_remote_code,
        local_files_only=True,
        model_kwargs={_dtype_word(): "float32"},
    )


def _logits(name: str, checkpoint: Checkpoint, texts: Sequence[str]) -> Iterator[FloatArray]:
    """What one of transformers' classes gives first for each text alone."""
    import torch
    import transformers

    folder, code = str(checkpoint.transformer), checkpoint.trust_remote_code
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=code)
    model = getattr(transformers, name).from_pretrained(
        folder, trust_remote_code=code, **{_dtype_word(): torch.float32}
    )
    model.eval()
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.inference_mode():
            outputs = model(**inputs)
        rows: FloatArray = outputs[0].float().numpy()
        yield rows


def _dtype_word() -> str:
    """Transformers 5 calls dtype what 4 called torch_dtype."""
    return "dtype" if int(metadata.version("transformers").partition(".")[0]) >= 5 else "torch_dtype"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the libraries' progress and warnings off the user's screen."""
    from embedge_export.source.torch_model import quiet

    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with quiet():
            yield
    finally:
        logger.setLevel(level)
