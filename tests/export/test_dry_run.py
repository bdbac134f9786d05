"""`embedge export --dry-run`, and every flag's wrong values."""

import json
import shutil

import pytest
from tests.export import tiny_kinds
from tests.export.tiny import edit_json, make_bert, write_json
from tests.export.tiny_remote import gated

from embedge.cli.main import main
from embedge.errors import ExportError
from embedge_export.dry_run import describe, plan_export
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec


@pytest.fixture(scope="module")
def bundle(tiny_bert, tmp_path_factory):
    return export(ExportSpec(model=str(tiny_bert), output=tmp_path_factory.mktemp("bundles") / "tiny"))


def spec(folder, tmp_path, **options):
    return ExportSpec(model=str(folder), output=tmp_path / "out", **options)


def test_the_plan_says_what_was_understood(tmp_path):
    make_bert(tmp_path / "m", dense=((32, 16, "torch.nn.modules.activation.Tanh"),))
    write_json(
        tmp_path / "m" / "config_sentence_transformers.json",
        {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"},
    )
    plan = plan_export(spec(tmp_path / "m", tmp_path, matryoshka=(8, 16)))
    assert (plan.architecture, plan.model_type, plan.kind) == ("BertModel", "bert", "embedding")
    assert plan.tasks == ("embed", "token_embed")
    assert (plan.pooling, plan.normalize, plan.matryoshka) == (("MEAN",), True, (8, 16))
    assert (plan.embedding_size, plan.modules) == (16, ("Dense 32 to 16, Tanh",))
    assert (plan.max_seq_len, plan.limit_from) == (48, "sentence_bert_config.json")
    assert plan.prompts == {"query": "query: ", "document": ""}
    assert set(plan.weights) == {"model.safetensors", "2_Dense/model.safetensors"}
    assert plan.route == "built from the weights"
    text = describe(plan)
    assert "query = 'query: ' (default)" in text
    assert text.endswith("Nothing was written.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: tiny_kinds.bert_classifier(folder, "a", "b"), {"labels": ("a", "b")}),
        (tiny_kinds.static, {"route": "built from the table", "kind": "static"}),
        (
            tiny_kinds.qwen3_reranker,
            {"kind": "causal_reranker", "limit_from": "model_max_length in tokenizer_config.json"},
        ),
        (tiny_kinds.pylate, {"kind": "late_interaction", "tasks": ("token_embed",)}),
    ],
    ids=["classifier", "static", "decoder", "pylate"],
)
def test_plans_of_other_kinds(tmp_path, make, expected):
    task = "score" if expected.get("kind") == "causal_reranker" else None
    plan = plan_export(spec(make(tmp_path / "m"), tmp_path, task=task))
    assert {name: getattr(plan, name) for name in expected} == expected
    assert describe(plan)


def test_the_limit_says_where_it_comes_from(tiny_bert, tmp_path):
    assert plan_export(spec(tiny_bert, tmp_path, max_seq_len=20)).limit_from == "--max-seq-len"
    shutil.copytree(tiny_bert, tmp_path / "m")
    (tmp_path / "m" / "sentence_bert_config.json").unlink()
    edit_json(tmp_path / "m" / "tokenizer_config.json", model_max_length=10**30)
    plan = plan_export(spec(tmp_path / "m", tmp_path))
    assert (plan.max_seq_len, plan.limit_from) == (64, "max_position_embeddings in config.json")


def test_the_files_of_a_plan_are_those_of_the_bundle(tiny_bert, bundle, tmp_path):
    plan = plan_export(spec(tiny_bert, tmp_path))
    assert [name for name in plan.files if not (bundle / name).is_file()] == []


def test_remote_code_is_planned_with_its_hashes(tmp_path):
    plan = plan_export(spec(gated(tmp_path / "m"), tmp_path, trust_remote_code=True))
    assert plan.route == "traced by torch.onnx"
    assert set(plan.code) == {"configuration_gated.py", "modeling_gated.py"}


def test_the_command_prints_and_writes_nothing(tiny_bert, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "store"))
    assert main(["export", str(tiny_bert), "--dry-run", "--prompt", "query=q: "]) == 0
    printed = capsys.readouterr().out
    assert f"would write   {tmp_path / 'store'}" in printed
    assert main(["export", str(tiny_bert), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny-bert"
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_refused_where_the_export_would_be(tiny_bert, bundle, tmp_path):
    with pytest.raises(ExportError, match="already holds a bundle"):
        plan_export(ExportSpec(model=str(tiny_bert), output=bundle))
    assert plan_export(ExportSpec(model=str(tiny_bert), output=bundle, force=True)).replaces
    with pytest.raises(ExportError, match="task 'classify' does not fit"):
        plan_export(spec(tiny_bert, tmp_path, task="classify"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--opset", "9"], "17"),
        (["--opset", "x"], "is no whole number"),
        (["--task", "sing"], "'sing' is not known; expected one of embed"),
        (["--pooling", "median"], "'MEDIAN' is not known"),
        (["--matryoshka", "64,,128"], "'64,,128' is no list of sizes"),
        (["--matryoshka", "0"], "is no list of sizes"),
        (["--prompt", "query: "], "expected NAME=TEXT"),
        (["--prompt", "=text"], "expected NAME=TEXT"),
        (["--max-seq-len", "0"], "'0' is no length"),
        (["--max-seq-len", "-5"], "'-5' is no length"),
        (["--json"], "--json needs --dry-run"),
        (["--no-token", "no"], "--no-token needs --yes-token"),
        (["--normalize", "--no-normalize"], "not allowed with"),
        (["--revision"], "expected one argument"),
        (["--source", "m"], "--source needs --only-verify"),
        (["--only-verify", "b"], "--only-verify needs --source"),
        (["--only-verify", "b", "--source", "m"], "neither MODEL nor -o"),
        (["--only-verify", "b", "--from-onnx", "f"], "--only-verify needs --source"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_exits_with_2(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(tmp_path), *flags])
    assert message in capsys.readouterr().err


def test_a_folder_has_no_revisions(tiny_bert, tmp_path, capsys):
    assert main(["export", str(tiny_bert), "-o", str(tmp_path / "out"), "--revision", "v2"]) == 1
    assert "revision 'v2' is asked of tiny-bert, which is a folder" in capsys.readouterr().err


def test_a_snapshot_is_its_own_revision(tiny_bert, tmp_path):
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / "abc123"
    shutil.copytree(tiny_bert, snapshot)
    plan = plan_export(spec(snapshot, tmp_path, revision="abc123"))
    assert (plan.name, plan.revision) == ("org/tiny", "abc123")
    with pytest.raises(ExportError, match="revision 'main' is asked of abc123"):
        plan_export(spec(snapshot, tmp_path, revision="main"))
