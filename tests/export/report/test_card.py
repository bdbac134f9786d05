"""The model card and the command: what people copy from them works."""

import re
from pathlib import Path

import msgspec
import pytest
from tests.export.report.reported import KINDS, reported

from embedge.manifest import SourceSpec, fingerprint, load_manifest
from embedge.testing import tiny_bundle
from embedge_export.cli import add_parser
from embedge_export.report import card
from embedge_export.report.command import export_command
from embedge_export.spec import ExportSpec


def test_neither_page_nor_card_names_this_machine(embedder):
    import platform

    folder, _, page, readme = embedder
    for text in (page, readme):
        assert str(folder) not in text
        assert str(Path.home()) + "/" not in text
        assert not platform.node() or platform.node() not in text


def test_the_fingerprint_does_not_depend_on_report_and_card(embedder):
    folder, manifest, _, _ = embedder
    from embedge_export.write.manifest import file_records

    with_report = msgspec.structs.replace(manifest, files=file_records(folder))
    assert {"report.html", "README.md"} <= set(with_report.files)
    assert fingerprint(with_report) == fingerprint(manifest)


def test_the_card_has_front_matter_usage_and_figures(embedder):
    _, manifest, _, readme = embedder
    assert readme.startswith("---\nlibrary_name: embedge\npipeline_tag: sentence-similarity\n")
    code = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert 'EdgeModel("BUNDLE")' in code[0]
    assert 'backend="onnx"' in code[1]
    for block in code:
        compile(block, "README.md", "exec")
    assert f"| fp32 | float32 | {manifest.files['onnx/model.onnx'].size_bytes / 1e6:.1f} MB |" in readme
    assert f"| {manifest.variants['fp32'].fidelity.end_to_end.ndcg_10:.4f} |" in readme


@pytest.mark.parametrize("kind", KINDS)
def test_the_cards_first_example_runs(kind, tmp_path, monkeypatch, capsys):
    _, _, readme = reported(tmp_path / "BUNDLE", kind)
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0], {})


@pytest.mark.parametrize("licence", ["mit", 'odd "one": #1'])
def test_licence_and_base_model_are_valid_yaml(licence, tmp_path):
    import yaml

    source = msgspec.structs.replace(
        load_manifest(tiny_bundle(tmp_path)).source, name="org/model", licence=licence
    )
    manifest = load_manifest(tiny_bundle(tmp_path, changes={"source": source}))
    matter = yaml.safe_load(card.render(manifest, "embedge export org/model").split("---")[1])
    assert matter["license"] == licence
    assert matter["base_model"] == "org/model"


def test_the_command_means_the_same_spec():
    import argparse

    spec = ExportSpec(
        model="org/name",
        pooling=("CLS", "MEAN"),
        normalize=False,
        matryoshka=(64, 128),
        prompts={"query": "query: ", "passage": "it's: "},
        default_prompt_name="query",
        labels=("a", "b"),
        max_seq_len=128,
        opset=20,
        trust_remote_code=True,
        force=True,
    )
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    import shlex

    commit = "c" * 40
    source = SourceSpec(name="org/name", weights_sha256={}, revision=commit)
    words = shlex.split(export_command(spec, source))
    assert words[:5] == ["embedge", "export", "org/name", "--revision", commit]
    args = parser.parse_args(words[1:])
    assert args.pooling == spec.pooling
    assert args.normalize is False
    assert args.matryoshka == spec.matryoshka
    assert dict(args.prompt) == spec.prompts
    assert (args.default_prompt, args.labels) == ("query", spec.labels)
    assert (args.max_seq_len, args.opset, args.trust_remote_code) == (128, 20, True)
    assert not args.force


def test_the_command_names_the_checkpoint_and_no_folder(tmp_path):
    spec = ExportSpec(model=str(tmp_path), revision="main")
    source = SourceSpec(name="all-MiniLM-L6-v2", weights_sha256={})
    assert export_command(spec, source) == "embedge export all-MiniLM-L6-v2"
