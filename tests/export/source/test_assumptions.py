"""What nothing states is assumed aloud, or asked for."""

from __future__ import annotations

import logging

import pytest
from tests.checkpoints import make
from tests.generated.trial import quick

from embedge.cli.main import main
from embedge.errors import ExportError
from embedge.manifest import load_manifest
from embedge_export.dry_run import describe, plan_export
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

pytestmark = [pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def few_documents():
    with quick():
        yield


def test_pooling_of_an_encoder_alone_is_assumed_and_said_everywhere(tmp_path, caplog, capsys):
    checkpoint = make("bert", tmp_path / "checkpoint")
    spec = ExportSpec(model=str(checkpoint), output=tmp_path / "out")
    assert "assumed       pooling CLS" in describe(plan_export(spec))
    steps = []
    with caplog.at_level(logging.WARNING, logger="embedge_export"):
        bundle = export(spec, steps.append)
    assert "assumed pooling CLS: no file of the checkpoint says" in caplog.text
    (line,) = (step.detail for step in steps if step.stage == "source" and step.finished)
    assert "; assumed pooling CLS" in line
    (assumed,) = load_manifest(bundle).assumed
    assert assumed.startswith("pooling CLS")
    assert "--pooling" in assumed
    for file in ("README.md", "report.html"):
        assert "ssumed pooling CLS" in (bundle / file).read_text("utf-8")
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "pooling CLS: no file" in shown
    assert "witness" in shown


def test_what_is_stated_is_not_assumed(tmp_path):
    checkpoint = make("bert", tmp_path / "checkpoint")
    spec = ExportSpec(model=str(checkpoint), output=tmp_path / "out", pooling=("MEAN",))
    assert plan_export(spec).assumed == ()
    stated = make("pool-cls", tmp_path / "stated")
    assert plan_export(ExportSpec(model=str(stated), output=tmp_path / "out")).assumed == ()


@pytest.mark.parametrize(
    ("name", "architecture", "choice"),
    [
        ("splade-published", "BertForMaskedLM", "--kind sparse"),
        ("qwen3-reranker", "Qwen3ForCausalLM", "--task score"),
        ("prm-lm", "MistralForCausalLM", "--task score"),
    ],
)
def test_a_language_model_alone_is_no_embedder(tmp_path, name, architecture, choice):
    checkpoint = make(name, tmp_path / "checkpoint")
    for task in (None, "embed"):
        with pytest.raises(ExportError, match=f"{architecture} is a language model, and no file") as caught:
            plan_export(ExportSpec(model=str(checkpoint), output=tmp_path / "out", task=task))
        assert "--pooling" in str(caught.value)
        assert choice in str(caught.value)
    spec = ExportSpec(model=str(checkpoint), output=tmp_path / "out", pooling=("MEAN",))
    assert plan_export(spec).pooling == ("MEAN",)


def test_a_masked_language_model_is_read_as_splade_where_it_is_asked_to(tmp_path):
    checkpoint = make("splade-published", tmp_path / "checkpoint")
    manifest = load_manifest(
        export(ExportSpec(model=str(checkpoint), output=tmp_path / "out", kind="sparse"))
    )
    assert (manifest.sparse, manifest.similarity, manifest.tasks) == (True, "dot", ("embed",))
    assert "--kind sparse" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["bert", "pool-cls"])
def test_kind_sparse_fits_a_masked_language_model_only(tmp_path, name):
    checkpoint = make(name, tmp_path / "checkpoint")
    with pytest.raises(ExportError, match="kind 'sparse' does not fit"):
        plan_export(ExportSpec(model=str(checkpoint), output=tmp_path / "out", kind="sparse"))
