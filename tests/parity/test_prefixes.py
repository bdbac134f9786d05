"""What texts begin with, computed once: the numbers of the checkpoint's own library, asked as its users ask it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tests.checkpoints import make
from tests.checkpoints.classifiers import gemma2_reranker
from tests.checkpoints.reference import answers
from tests.parity.conftest import Exported

from embedge import EdgeModel
from embedge_export.graph.outputs import reads_last_alone
from embedge_export.pipeline import export
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec

ROUNDING = 1e-6
"""Of a unit vector or a probability; of a larger logit as a share."""
QUERY = "what does a man eat, when he may?"
DOCUMENTS = [
    "a man is eating food.",
    "the girl",
    "x",
    "\n\nnew",
    " lead",
    "dogs and cats " * 20,
    "9 plays, 8 rivers",
]
INSTRUCTIONS = [
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
    "Represent this long sentence for whatever is to be found by it later on: " * 4,
]


def scores_of(model: EdgeModel, bundle: Path, expected: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Scores of the documents: the library's, those without prefixes, and of each document alone."""
    scores = model.score(QUERY, DOCUMENTS).numpy()
    assert_allclose(scores, expected, atol=1e-5)
    with EdgeModel(bundle, device="cpu", enable_prefix_caching=False) as whole:
        assert_allclose(scores, whole.score(QUERY, DOCUMENTS).numpy(), rtol=ROUNDING, atol=ROUNDING)
    assert_array_equal([model.score(QUERY, each).numpy()[0] for each in DOCUMENTS], scores)
    return scores


@pytest.mark.parametrize(("name", "spec"), [("qwen3-reranker", {"task": "score"}), ("qwen3-reranker-st", {})])
def test_a_reranker_of_one_query_with_documents(name, spec, exported: Exported) -> None:
    checkpoint, bundle = exported(name, **spec)
    expected = np.array(answers(name, checkpoint, [(QUERY, each) for each in DOCUMENTS])).ravel()
    with EdgeModel(bundle, device="cpu") as model:
        scores = scores_of(model, bundle, expected)
        # the template alone is shared where every pair has its own query
        assert_allclose(model.score([QUERY] * 7, DOCUMENTS).numpy(), expected, atol=1e-5)
        assert_array_equal(model.score(QUERY, DOCUMENTS[::-1]).numpy()[::-1], scores)
        kept = model._open().engine.forward.prefixes
        assert kept is not None
        assert len(kept._kept) == 2
        ranked = model.rerank(QUERY, DOCUMENTS)
        assert [result.index for result in ranked] == list(np.argsort(-expected, kind="stable"))


@pytest.mark.parametrize("sliding_window", [24, 4096])
def test_a_reranker_with_windows_and_capped_scores(sliding_window: int, tmp_path) -> None:
    from sentence_transformers import CrossEncoder

    gemma2_reranker(tmp_path / "c", sliding_window=sliding_window)
    bundle = export(ExportSpec(model=str(tmp_path / "c"), output=tmp_path / "bundle"))
    library = CrossEncoder(str(tmp_path / "c"), device="cpu")
    expected = [float(library.predict([(QUERY, each)], show_progress_bar=False)[0]) for each in DOCUMENTS]
    with EdgeModel(bundle, device="cpu") as model:
        scores_of(model, bundle, expected)
        kept = model._open().engine.forward.prefixes
        assert kept is not None
        assert kept.kept_bytes > 0


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_an_embedder_with_an_instruction(instruction: str, exported: Exported) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported("qwen3-embedding")
    library = SentenceTransformer(str(checkpoint), device="cpu")
    expected = library.encode(DOCUMENTS, prompt=instruction, show_progress_bar=False)
    with (
        EdgeModel(bundle, device="cpu") as model,
        EdgeModel(bundle, device="cpu", enable_prefix_caching=False) as whole,
    ):
        rows = model.embed(DOCUMENTS, prompt=instruction).numpy()
        assert_allclose(rows, expected, atol=1e-5)
        assert_allclose(rows, whole.embed(DOCUMENTS, prompt=instruction).numpy(), atol=ROUNDING)
        alone = [model.embed([each], prompt=instruction).numpy()[0] for each in DOCUMENTS]
        assert_array_equal(alone, rows)
        kept = model._open().engine.forward.prefixes
        assert kept is not None
        assert kept.kept_bytes > 0


@pytest.mark.parametrize(
    ("name", "spec", "can"),
    [
        ("qwen3-embedding", {}, True),
        ("qwen3-embedding", {"pooling": ("MEAN",)}, False),
        ("qwen3-classifier", {}, True),
        ("pool-cls", {}, False),
    ],
)
def test_only_what_reads_the_last_token_alone_can(name: str, spec, can: bool, tmp_path) -> None:
    checkpoint = open_checkpoint(ExportSpec(model=str(make(name, tmp_path / "c")), **spec)).checkpoint
    assert reads_last_alone(checkpoint) == can
    assert checkpoint.passed_over_id == (0 if name == "qwen3-classifier" else None)
