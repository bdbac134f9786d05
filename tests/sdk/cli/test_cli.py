"""The command line: what it prints, where, and with which exit status."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests import bundles

from embedge import EdgeModel
from embedge.cli.main import main


def failed(capsys, *argv: object) -> str:
    """Run a command that has to fail with one sentence; return it."""
    assert main([str(a) for a in argv]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("embedge: ")
    assert "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    return captured.err


def test_encode_json_is_what_the_sdk_says(tiny_embedder, capsys) -> None:
    assert main(["encode", str(tiny_embedder), "food", "city water", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with EdgeModel(tiny_embedder) as model:
        assert_allclose(
            [r["embedding"] for r in rows], model.embed(["food", "city water"]).numpy(), atol=1e-6
        )
    assert [(r["index"], r["text"], r["num_truncated_tokens"]) for r in rows] == [
        (0, "food", 0),
        (1, "city water", 0),
    ]


def test_encode_for_people(tiny_embedder, capsys) -> None:
    assert main(["encode", str(tiny_embedder), "food", "--no-normalize"]) == 0
    assert main(["encode", str(tiny_embedder), "food", "--task", "token_embed"]) == 0
    shown = capsys.readouterr().out
    assert "3 tokens, 32 components" in shown
    assert "3 tokens, 3 x 32 components" in shown
    assert "\033" not in shown


def test_encode_stdin_to_a_file(tiny_embedder, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(("food\ncity\n" + "light " * 90).encode())))
    target = tmp_path / "out.npy"
    assert main(["encode", str(tiny_embedder), "-", "-o", str(target), "--prompt-name", "query"]) == 0
    assert np.load(target).shape == (3, 32)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3 rows, 58 tokens, 1 cut at the limit" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["food", "--dimensions", "8"], "does not support matryoshka"),
        (["food", "--prompt-name", "nope"], "'query'"),
        (["food", "--variant", "int9"], "fp32"),
        (["food", "--device", "tpu"], "--device tpu is not known"),
        (["food", "--truncate", "0"], "--truncate 0 is out of range"),
        (["food", "--task", "token_embed", "-o", "x.npy"], "--json"),
        (["food", "-o", "/nowhere/x.npy"], "/nowhere/x.npy"),
    ],
)
def test_encode_refusals(tiny_embedder, capsys, arguments, message) -> None:
    assert message in failed(capsys, "encode", tiny_embedder, *arguments)


def test_no_bundle(tmp_path, capsys) -> None:
    for command in ("inspect", "verify"):
        assert "no manifest.json" in failed(capsys, command, tmp_path)
    assert "Make one of a folder" in failed(capsys, "encode", "nope", "text")


def test_stdin_that_is_no_text(tiny_embedder, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    assert "stdin is not UTF-8" in failed(capsys, "encode", tiny_embedder, "-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "stdin holds no line" in failed(capsys, "encode", tiny_embedder, "-")


@pytest.mark.parametrize(
    "argv", [["nope"], ["encode"], ["encode", "x"], ["encode", "x", "y", "--dimensions", "many"]]
)
def test_wrong_usage_exits_with_2(argv, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: embedge" in capsys.readouterr().err


def test_inspect(tiny_embedder, tiny_cross_encoder, capsys) -> None:
    assert main(["inspect", str(tiny_embedder)]) == 0
    shown = capsys.readouterr().out
    for fact in ("tiny", "BertModel", "MEAN → normalised", "48 tokens", "fp32", "query", "fingerprint"):
        assert fact in shown
    assert main(["inspect", str(tiny_cross_encoder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["head"]["labels"] == ["LABEL_0"]


def test_verify(tiny_embedder, tiny_cross_encoder, tiny_token_classifier, tmp_path, capsys) -> None:
    for bundle in (tiny_embedder, tiny_cross_encoder, tiny_token_classifier):
        assert main(["verify", str(bundle), "--json"]) == 0
        (report,) = json.loads(capsys.readouterr().out)
        assert report["passed"]
        assert report["num_probes"] > 3
        assert report["max_abs_diff"] <= 1e-5
    damaged = bundles.copy(tiny_embedder, tmp_path)

    def scale(graph) -> None:
        from onnx import numpy_helper

        table = next(t for t in graph.graph.initializer if "word_embeddings" in t.name)
        table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) * np.float32(1.01), table.name))

    bundles.edit_graph(damaged, scale)
    assert main(["verify", str(damaged)]) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "does not compute here" in captured.err


def test_list(tiny_embedder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path))
    assert main(["list"]) == 0
    assert "no bundles in" in capsys.readouterr().err
    bundles.copy(tiny_embedder, tmp_path).rename(tmp_path / "one")
    broken = bundles.copy(tiny_embedder, tmp_path).rename(tmp_path / "two")
    (broken / "manifest.json").write_text("{}")
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "one" in shown
    assert "not readable" in shown
    assert main(["list", "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert one["tasks"] == ["embed", "token_embed"]
    assert "not a valid manifest" in two["error"]


def test_search(tiny_embedder, tmp_path, capsys) -> None:
    document = tmp_path / "a.md"
    passages = "food city water " * 5 + "\n\n- " + "berlin germany capital " * 4
    document.write_text(f"# title\n\n{passages}\n\n```\ncode stays out of it, however long it is\n```\n")
    assert (
        main(["search", str(tiny_embedder), "berlin germany capital", "--in", str(document), "--json"]) == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert [p["line"] for p in answer["paragraphs"]] == [5, 3]
    assert main(["search", str(tiny_embedder), "berlin", "--in", str(document), "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert "2 paragraphs of 1 file, " in shown
    assert "a.md:" in shown
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("man woman house " * 6)
    assert main(["search", str(tiny_embedder), "berlin", "--in", str(tmp_path), "--json", "--top", "9"]) == 0
    found = json.loads(capsys.readouterr().out)["paragraphs"]
    assert {Path(each["file"]).name for each in found} == {"a.md", "b.txt"}
    assert "expected at least 1" in failed(capsys, "search", tiny_embedder, "q", "--in", document, "--top", 0)
    (tmp_path / "empty.md").write_text("short")
    assert "no paragraph" in failed(capsys, "search", tiny_embedder, "q", "--in", tmp_path / "empty.md")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in failed(capsys, "search", tiny_embedder, "q", "--in", tmp_path / "binary")
    assert "No such file" in failed(capsys, "search", tiny_embedder, "q", "--in", tmp_path / "missing")


def test_classify(tiny_cross_encoder, tiny_embedder, capsys) -> None:
    assert main(["classify", str(tiny_cross_encoder), "food", "city", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with EdgeModel(tiny_cross_encoder) as model:
        probs = model.classify(["food", "city"]).numpy()[:, 0]
    assert_allclose([r["probs"]["LABEL_0"] for r in rows], probs, atol=1e-6)
    assert main(["classify", str(tiny_cross_encoder), "food", "--logits"]) == 0
    assert "LABEL_0" in capsys.readouterr().out
    assert "its tasks are embed" in failed(capsys, "classify", tiny_embedder, "food")


@pytest.mark.parametrize("bundle", ["tiny_embedder", "tiny_cross_encoder"])
def test_score_and_rerank(bundle, request, capsys) -> None:
    path = request.getfixturevalue(bundle)
    documents = ["food city", "how", "berlin germany"]
    assert main(["score", str(path), "city", *documents, "--json"]) == 0
    scores = [json.loads(line)["score"] for line in capsys.readouterr().out.splitlines()]
    with EdgeModel(path) as model:
        assert_allclose(scores, model.score("city", documents).numpy(), atol=1e-6)
    assert main(["rerank", str(path), "city", *documents, "--top", "2", "--json"]) == 0
    ranked = [json.loads(line)["index"] for line in capsys.readouterr().out.splitlines()]
    assert ranked == list(np.argsort(scores)[::-1][:2])
    assert main(["rerank", str(path), "city", *documents]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert "--top 0" in failed(capsys, "rerank", path, "city", *documents, "--top", "0")
    assert "has no template" in failed(capsys, "score", path, "city", "food", "--instruction", "x")


def test_as_a_module(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["embedge", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("embedge", run_name="__main__")
    assert caught.value.code in (None, 0)
    assert capsys.readouterr().out.startswith("embedge 0.")


def test_as_a_process(tiny_embedder: Path) -> None:
    command = [sys.executable, "-m", "embedge"]
    done = subprocess.run([*command, "encode", "nope", "x"], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("embedge: no bundle at 'nope'")
    shown = subprocess.run([*command, "--version"], text=True, capture_output=True, check=True).stdout
    assert shown.startswith("embedge 0.")
    piped = subprocess.run(
        f"yes food | head -3000 | {' '.join(command)} encode {tiny_embedder} - --json | head -1",
        shell=True, text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(piped.stdout)["index"] == 0
    assert piped.stderr == ""
