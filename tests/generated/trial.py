"""Export a generated checkpoint and compare it with its own library, which is asked here and not by the export."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tests.generated.checkpoints import write
from tests.generated.plan import Plan
from tests.installed import TRANSFORMERS_5

from embedge import EdgeModel, PoolingParams
from embedge.errors import EmbedgeError, ExportError, NumericalError, VerificationError
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

TEXTS = (
    "a fox",
    "The quick brown fox jumps over the lazy dog, isn't it?",
    "UPPER and lower: How do I reset my password?",
    "Быстрая лиса 🙂 über ﬁ 漢字",
    "def add(a, b):\n    return a + b\n",
    " ".join(["plants turn light, water and carbon dioxide into sugar and oxygen"] * 3),
    " ".join(["one two three four five six seven eight"] * 40),
)
PAIRS = tuple(
    (("how do foxes jump", "password", "what is a plant?" * 9)[i % 3], text) for i, text in enumerate(TEXTS)
)
_FEW = 3
_ENCODERS, _DECODERS = 2e-5, 2e-4
"""As far as the export's own gate allows, and the library's other attention and batches as much again; of answers up
to 1, of larger ones in proportion, or to what half of the texts' answers reach: one near 0 is a difference of them."""


@dataclass(frozen=True)
class Outcome:
    """What became of a checkpoint.

    Attributes:
        plan: what it is.
        verdict: "equal", "refused" by a sentence; the rest must not be: "differs" silently, "missed" its own gate,
            "failed" with another exception, "unwritten" where the libraries could not save or answer it.
        words: the difference, or the sentence.
    """

    plan: Plan
    verdict: str
    words: str = ""

    @property
    def is_right(self) -> bool:
        return self.verdict in ("equal", "refused")


def attempt(plan: Plan, folder: Path, reference: Literal["torch", "numpy"] = "torch") -> Outcome:
    """Write, export and compare one checkpoint.

    Args:
        plan: what it is.
        folder: where it and its bundle are written.
        reference: "numpy" exports it without torch and transformers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            checkpoint = write(plan, folder / "checkpoint")
            library = open_library(plan, checkpoint)
            expected = {name: _rows(ask()) for name, (ask, _) in questions(plan, library).items()}
        except Exception as error:
            return Outcome(plan, "unwritten", f"{type(error).__name__}: {error}")
        try:
            spec = ExportSpec(
                model=str(checkpoint), output=folder / "bundle", witness=False, reference=reference
            )
            bundle = export(spec)
        except VerificationError as error:
            return Outcome(plan, "missed", str(error))
        except ExportError as error:
            return Outcome(plan, "refused", str(error))
        except Exception as error:
            return Outcome(plan, "failed", f"{type(error).__name__}: {error}")
        with EdgeModel(bundle, device="cpu", truncate_prompt_tokens=-1) as model:
            return _compare(plan, library, model, expected)


def open_library(plan: Plan, checkpoint: Path) -> Any:
    """The checkpoint in its own library, in float32."""
    if plan.kind == "classifier":
        return _Classifier(checkpoint)
    import sentence_transformers

    names = {"cross_encoder": "CrossEncoder", "sparse": "SparseEncoder"}
    loader = getattr(sentence_transformers, names.get(plan.kind, "SentenceTransformer"))
    return loader(str(checkpoint), device="cpu", model_kwargs={_dtype_word(): "float32"}).float().eval()


def _dtype_word() -> str:
    return "dtype" if TRANSFORMERS_5 else "torch_dtype"


class _Classifier:
    def __init__(self, folder: Path) -> None:
        import torch
        import transformers

        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
        self.names = [model.config.id2label[index] for index in range(model.config.num_labels)]

    def __call__(self, texts: list[str]) -> np.ndarray:
        answers = self.pipeline(texts, top_k=None, truncation=True)
        by_name = [{entry["label"]: entry["score"] for entry in each} for each in answers]
        return np.array([[each[name] for name in self.names] for each in by_name])


Asked = dict[str, tuple[Callable[[], Any], Callable[[EdgeModel], Any]]]


def questions(plan: Plan, library: Any) -> Asked:
    """By their words: how the library answers each text alone, without padding, and how the bundle does."""
    if plan.kind == "classifier":
        texts = list(TEXTS)
        return {"classify": (lambda: library(texts), lambda model: model.classify(texts).numpy())}
    return _of_pairs(plan, library) if plan.kind == "cross_encoder" else _of_texts(plan, library)


def _of_texts(plan: Plan, library: Any) -> Asked:
    options: dict[str, Any] = {"show_progress_bar": False, "batch_size": 1}
    if plan.kind == "sparse":
        options["convert_to_sparse_tensor"] = False

    def embedded(texts: list[str], **prompt: str) -> Any:
        return np.asarray(library.encode(texts, **options, **prompt))

    texts = list(TEXTS)
    asked: Asked = {"embed": (lambda: embedded(texts), lambda model: model.embed(texts).numpy())}
    for name in plan.settings.get("prompts", {}):
        asked[f"embed with prompt {name}"] = (
            lambda name=name: embedded(texts, prompt_name=name),
            lambda model, name=name: model.embed(texts, prompt_name=name).numpy(),
        )
    if "default_prompt_name" in plan.settings:
        asked["embed without prompt"] = (
            lambda: embedded(texts, prompt=""),
            lambda model: model.embed(texts, prompt="").numpy(),
        )
    names = ["cosine", "dot", "euclidean", "manhattan"]
    asked["similarity"] = (
        lambda: [np.array([names.index(library.similarity_fn_name)])],
        lambda model: [np.array([names.index(model.manifest.similarity)])],
    )
    return asked


def _of_pairs(plan: Plan, library: Any) -> Asked:
    import torch

    queries, documents = map(list, zip(*PAIRS, strict=True))

    def predicted(**options: Any) -> Any:
        rows = library.predict(list(PAIRS), show_progress_bar=False, batch_size=1, **options)
        return np.asarray(rows).reshape(len(PAIRS), -1)

    raw = PoolingParams(use_activation=False)
    if plan.config.get("num_labels", 1) > 1:
        pairs: Any = [{"text": query, "text_pair": document} for query, document in PAIRS]
        return {
            "classify pairs without activation": (
                lambda: predicted(activation_fn=torch.nn.Identity()),
                lambda model: model.classify(pairs, pooling_params=raw).numpy(),
            )
        }
    asked: Asked = {
        "score": (predicted, lambda model: model.score(queries, documents).numpy()[:, None]),
        "score without activation": (
            lambda: predicted(activation_fn=torch.nn.Identity()),
            lambda model: model.score(queries, documents, pooling_params=raw).numpy()[:, None],
        ),
    }
    for name in plan.settings.get("prompts", {}):
        asked[f"score with prompt {name}"] = (
            lambda name=name: predicted(prompt_name=name),
            lambda model, name=name: model.score(queries, documents, query_prompt_name=name).numpy()[:, None],
        )
    return asked


def _compare(plan: Plan, library: Any, model: EdgeModel, expected: dict[str, list[np.ndarray]]) -> Outcome:
    gate = _DECODERS if plan.network in ("qwen3", "llama", "mistral", "qwen3-causal") else _ENCODERS
    worst = 0.0
    for name, (_, ask) in questions(plan, library).items():
        typical = np.median([np.abs(row).max(initial=0.0) for row in expected[name]])
        try:
            actual = _rows(ask(model))
        except NumericalError as error:
            if error.index is not None and not np.isfinite(expected[name][error.index]).all():
                continue  # the library answers with numbers that are none
            return Outcome(plan, "failed", f"{name}: {error}")
        except EmbedgeError as error:
            return Outcome(plan, "failed", f"{name}: {type(error).__name__}: {error}")
        for index, (ours, theirs) in enumerate(zip(actual, expected[name], strict=True)):
            if ours.shape != theirs.shape:
                return Outcome(
                    plan, "differs", f"{name}, answer {index}: shape {ours.shape} for {theirs.shape}"
                )
            difference = float(np.abs(ours - theirs).max(initial=0.0))
            if not difference <= gate * max(1.0, typical, float(np.abs(theirs).max(initial=0.0))):
                return Outcome(plan, "differs", f"{name}, answer {index}: by {difference:.2g}")
            worst = max(worst, difference)
    return Outcome(plan, "equal", f"{worst:.1e}")


def _rows(answers: Any) -> list[np.ndarray]:
    return [np.asarray(row, dtype=np.float64) for row in answers]


@contextmanager
def quick() -> Iterator[None]:
    """Few documents, so that an export takes a second; the library's answers are what counts here."""
    from embedge_export.verify import questions as asked

    before, asked.QUICK_DOCUMENTS = asked.QUICK_DOCUMENTS, 24
    try:
        yield
    finally:
        asked.QUICK_DOCUMENTS = before
