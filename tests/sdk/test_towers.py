"""Bundles that hold all towers of a model: each answers by its name, and a score takes one for each side."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge import EdgeModel
from embedge.archive import add, pack
from embedge.bundle import check_files, open_bundle
from embedge.cli.main import main
from embedge.corpus import Vectors, encode_files
from embedge.errors import BundleError, IntegrityError, ManifestError, ParamsError
from embedge.manifest import MANIFEST_FILE, TowerSpec, dump_manifest, fingerprint, load_manifest
from embedge.testing import tiny_bundle
from embedge.verify import verify

PROMPTS = {"query": "the ", "document": "a "}
TEXTS = ["river", "the city is good", "food"]


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """Both towers, each a bundle of its own."""
    folder = tmp_path_factory.mktemp("apart")
    return {
        name: tiny_bundle(
            folder / name,
            seed=seed,
            changes={"tower": name, "prompts": PROMPTS, "default_prompt_name": name},
        )
        for seed, name in enumerate(("query", "document"))
    }


@pytest.fixture
def both(tmp_path):
    """The same, the query tower inside of the bundle of the other one, with its tokenizer."""
    changes = {"tower": "query", "prompts": PROMPTS, "default_prompt_name": "query"}
    inside = tiny_bundle(tmp_path / "both" / "towers" / "query", seed=0, changes=changes)
    (inside / "tokenizer.json").unlink()
    spec = TowerSpec(
        folder="towers/query",
        fingerprint=load_manifest(inside).fingerprint,
        shared={"tokenizer.json": "tokenizer.json"},
    )
    return tiny_bundle(
        tmp_path / "both",
        seed=1,
        changes={"tower": "document", "towers": {"query": spec}, "prompts": PROMPTS},
    )


def embedded(bundle, **options):
    with EdgeModel(bundle, device="cpu", threads=1) as model:
        return model.embed(TEXTS, **options).numpy()


@pytest.mark.parametrize("tower", ["query", "document"])
def test_each_answers_as_its_own_bundle(apart, both, tower):
    with EdgeModel(both, device="cpu", threads=1) as model:
        for options in ({}, {"prompt": ""}, {"prompt_name": "query"}):
            expected = embedded(apart[tower], **options)
            assert_allclose(model.embed(TEXTS, tower=tower, **options).numpy(), expected, atol=1e-7)
            assert_allclose(model.encode(TEXTS, tower=tower, **options).numpy(), expected, atol=1e-7)
            rows = [each.outputs.data for each in model.stream(TEXTS, tower=tower, **options)]
            assert_allclose(np.stack(rows), expected, atol=1e-7)


def test_a_call_without_a_tower_takes_the_bundles_own_without_a_prompt(apart, both):
    assert_allclose(embedded(both), embedded(apart["document"], prompt=""), atol=1e-7)


def test_a_score_takes_a_tower_for_each_side(apart, both):
    queries = embedded(apart["query"])
    documents = embedded(apart["document"])[::-1]
    expected = (queries * documents).sum(1)
    with EdgeModel(both, device="cpu", threads=1) as model:
        assert_allclose(model.score(TEXTS, TEXTS[::-1]).numpy(), expected, atol=1e-6)
        best = model.rerank(TEXTS[0], TEXTS)
    assert best[0].index == int(np.argmax(embedded(apart["document"]) @ queries[0]))


def test_towers_that_there_are_not(both, tiny):
    with (
        EdgeModel(both, device="cpu") as model,
        pytest.raises(
            ParamsError,
            match=r"tower='text' is not one of bundle .*, which has document, query; expected one of",
        ),
    ):
        model.embed("a", tower="text")
    with (
        EdgeModel(tiny("embed"), device="cpu") as model,
        pytest.raises(
            ParamsError,
            match=r"tower='query' is not one of .* embeds queries and documents alike; leave tower out",
        ),
    ):
        model.embed("a", tower="query")


def test_rows_of_files_are_documents_and_questions_are_queries(both, apart, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS) + "\n")
    with EdgeModel(both, device="cpu", threads=1) as model:
        encode_files(model, lines, tmp_path / "rows.npy")
        (hits,) = Vectors.open(tmp_path / "rows.npy").search(model, "river", top=3)
    documents = embedded(apart["document"])
    assert_allclose(np.load(tmp_path / "rows.npy"), documents, atol=1e-7)
    cosines = documents @ embedded(apart["query"])[0]
    assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1], atol=1e-6)
    assert json.loads((tmp_path / "rows.npy.json").read_text())["tower"] == "document"
    assert main(["encode", str(both), "river", "--tower", "query", "--json", "--device", "cpu"]) == 0
    assert_allclose(json.loads(capsys.readouterr().out)["embedding"], embedded(apart["query"])[0], atol=1e-6)


def test_the_probes_of_every_tower_are_replayed(both, capsys):
    reports = verify(both, device="cpu")
    assert {report.tower for report in reports} == {"document", "query"}
    assert all(report.passed for report in reports)
    assert main(["verify", str(both), "--device", "cpu"]) == 0
    assert "fp32, query tower: " in capsys.readouterr().out
    assert main(["inspect", str(both)]) == 0
    assert "document, query" in capsys.readouterr().out
    with EdgeModel(both, device="cpu", probes="always") as model:
        assert model.info.variant == "fp32"


def test_what_was_changed_in_a_tower_is_refused(both):
    check_files(open_bundle(both))
    graph = next((both / "towers" / "query" / "onnx").glob("*.onnx"))
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + b"\0")
    for use in (EdgeModel, verify):
        with pytest.raises(IntegrityError, match=r"towers/query/onnx/.* was altered"):
            use(both, device="cpu")
    graph.write_bytes(content)
    path = both / "towers" / "query" / MANIFEST_FILE
    manifest = msgspec.structs.replace(load_manifest(path.parent), max_seq_len=7)
    path.write_bytes(dump_manifest(msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))))
    with pytest.raises(IntegrityError, match=r"expects [0-9a-f]{64} for the query tower"):
        EdgeModel(both, device="cpu")
    path.unlink()
    with pytest.raises(ManifestError, match="cannot be read"):
        EdgeModel(both, device="cpu")


def test_sides_are_answered_by_their_towers(apart, both) -> None:
    expected = {side: embedded(folder, prompt_name=side) for side, folder in apart.items()}
    with EdgeModel(both, device="cpu", threads=1) as model:
        assert np.array_equal(model.embed_query(TEXTS).numpy(), expected["query"])
        assert np.array_equal(model.embed_document(TEXTS).numpy(), expected["document"])
        assert model.count_tokens("river", tower="query") == model.count_tokens("river", prompt="the ")
        assert model.tokenize("river", tower="query")[0].tokens[1:-1] == ["the", "river"]
        with pytest.raises(ParamsError, match="tower='sides' is not one of"):
            model.tokenize("river", tower="sides")


def test_they_are_passed_on_together(both, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "home"))
    packed = pack(both, tmp_path / "both.embedge")
    folder = add(packed, name="both")
    for tower in ("query", "document"):
        assert_allclose(embedded("both", tower=tower), embedded(both, tower=tower), rtol=0)
    files = {path.relative_to(both) for path in both.rglob("*") if path.is_file()}
    assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == files
    graph = next((both / "towers" / "query" / "onnx").glob("*.onnx"))
    content = packed.read_bytes()
    place = content.index(graph.read_bytes()) + 40
    packed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises((IntegrityError, BundleError), match=r"towers/query/onnx/|no archive of a bundle"):
        add(packed, name="altered")
    assert not (tmp_path / "home" / "altered").exists()
