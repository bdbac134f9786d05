"""Checkpoints that bring Python code: refused, or named loudly and exported."""

import hashlib
import logging
import subprocess
import sys

import pytest
from numpy.testing import assert_allclose
from tests.export.tiny import edit_json
from tests.export.tiny_remote import FILES, gated

from embedge import EdgeModel
from embedge.errors import ExportError
from embedge.manifest import load_manifest
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
from embedge_export.texts.built_in import TEXTS


def spec(folder, tmp_path, **options):
    return ExportSpec(model=str(folder), output=tmp_path / "out", **{"trust_remote_code": True, **options})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return gated(tmp_path_factory.mktemp("remote") / "gated")


def test_it_runs_nothing_without_the_flag(checkpoint, tmp_path):
    (poisoned := tmp_path / "poisoned").mkdir()
    for path in checkpoint.rglob("*"):
        target = poisoned / path.relative_to(checkpoint)
        target.mkdir(exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    marker = tmp_path / "ran"
    for name in FILES:
        (poisoned / name).write_text(f"open({str(marker)!r}, 'w')\n" + (poisoned / name).read_text())
    with pytest.raises(
        ExportError, match=r"own Python code \(auto_map in config.json\).*--trust-remote-code"
    ):
        export(spec(poisoned, tmp_path, trust_remote_code=False))
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_it_equals_sentence_transformers_and_names_its_code(checkpoint, tmp_path, caplog):
    from sentence_transformers import SentenceTransformer

    with caplog.at_level(logging.WARNING, "embedge_export"):
        bundle = export(spec(checkpoint, tmp_path))
    manifest = load_manifest(bundle)
    for name in FILES:
        sha256 = hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
        assert manifest.exporter[name] == sha256
        assert f"{name}  sha256 {sha256}" in caplog.text
    assert manifest.graph.inputs == ("input_ids", "attention_mask", "token_type_ids")
    texts = [text for text in TEXTS if text.strip()]
    expected = SentenceTransformer(str(checkpoint), device="cpu", trust_remote_code=True).encode(texts)
    with EdgeModel(bundle, device="cpu", truncate_prompt_tokens=-1) as model:
        assert_allclose(model.embed(texts).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model_class", "names", "task"),
    [
        ("GatedForSequenceClassification", ("a", "b", "c"), "classify"),
        ("GatedForSequenceClassification", ("relevance",), "score"),
        ("GatedForTokenClassification", ("O", "PER"), "token_classify"),
    ],
)
def test_its_classifiers_are_traced(tmp_path, model_class, names, task):
    bundle = export(spec(gated(tmp_path / "m", model_class, *names), tmp_path))
    assert load_manifest(bundle).tasks[0] == task
    assert load_manifest(bundle).variants["fp32"].fidelity.max_abs_diff <= 1e-5


def test_the_command_says_so_on_stderr_even_when_quiet(checkpoint, tmp_path):
    command = ["export", str(checkpoint), "-o", str(tmp_path / "out"), "--trust-remote-code", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "embedge", *command], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{tmp_path / 'out'}\n"
    assert "WARNING: running Python code of gated on this machine" in done.stderr
    assert "modeling_gated.py  sha256 " in done.stderr


def test_unknown_code_does_not_say_how_it_pools(tmp_path):
    folder = gated(tmp_path / "m", pooling=None)
    with pytest.raises(ExportError, match="Pass --pooling MEAN"):
        export(spec(folder, tmp_path))
    assert load_manifest(export(spec(folder, tmp_path, pooling=("CLS",)))).pooling.modes == ("CLS",)


@pytest.mark.parametrize(
    ("auto_map", "message"),
    [
        ({"AutoModel": "other/repo--modeling.Model"}, r"another repository.*without 'other/repo--'"),
        ({"AutoModel": "modeling_missing.Model"}, r"there is no modeling_missing.py"),
    ],
)
def test_code_that_is_not_in_the_checkpoint_is_refused(tmp_path, auto_map, message):
    folder = gated(tmp_path / "m")
    edit_json(folder / "config.json", auto_map=auto_map)
    with pytest.raises(ExportError, match=message):
        export(spec(folder, tmp_path))


def test_code_that_changes_during_the_export_is_noticed(tmp_path, monkeypatch):
    from embedge_export import pipeline

    folder = gated(tmp_path / "m")
    real = pipeline.verify_variant

    def change(*arguments):
        (folder / "modeling_gated.py").write_text("# another one")
        return real(*arguments)

    monkeypatch.setattr(pipeline, "verify_variant", change)
    with pytest.raises(ExportError, match=r"modeling_gated.py of m changed during the export"):
        export(spec(folder, tmp_path))
    assert not (tmp_path / "out").exists()
