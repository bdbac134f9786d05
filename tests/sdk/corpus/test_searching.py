"""Saved rows are searched: the same rows as by hand, in every precision; what is not whole is refused."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from embedge import CorpusError
from embedge._corpus import searching
from embedge._corpus.precision import PRECISIONS, dequantize, find_ranges, quantize
from embedge._corpus.sidecar import Sidecar
from embedge.corpus import Vectors, encode_files

RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(999, 40)).astype(np.float32)
QUERIES = RNG.normal(size=(5, 40)).astype(np.float32)


def sidecar(precision, ranges=None, **changes):
    facts = Sidecar(
        embedge="0",
        bundle="b",
        fingerprint="f" * 64,
        variant="fp32",
        task="embed",
        dimensions=40,
        normalized=False,
        prompt="",
        long_text="truncate",
        precision=precision,
        ranges=ranges,
        num_rows=len(ROWS),
        has_texts=False,
    )
    return msgspec.structs.replace(facts, **changes)


def by_hand(numbers, queries, top):
    unit = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
    scores = unit @ (queries / np.linalg.norm(queries, axis=1, keepdims=True)).T
    order = np.argsort(-scores.T, axis=1, kind="stable")[:, :top]
    return order, np.take_along_axis(scores.T, order, 1)


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if "binary" not in name])
def test_the_nearest_by_hand(monkeypatch, precision) -> None:
    monkeypatch.setattr(searching, "_BLOCK_BYTES", 40 * 4 * 100)
    ranges = find_ranges(ROWS)
    stored = quantize(ROWS, precision, ranges)
    facts = sidecar(precision, ranges.tolist())
    numbers = dequantize(stored, precision, 40, ranges)
    positions, scores = searching.search(stored, facts, QUERIES, 7, 2)
    expected, cosines = by_hand(numbers, QUERIES, 7)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_allclose(scores, cosines, atol=1e-6)


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_are_scored_by_the_querys_numbers(precision) -> None:
    stored = quantize(ROWS, precision)
    positions, scores = searching.search(stored, sidecar(precision), QUERIES, 5, 1)
    signs = dequantize(stored, precision, 40)
    expected, _ = by_hand(signs, QUERIES, 5)
    # the candidates are those with most signs in common: nearly all of the best are among them
    assert np.mean([len({*a} & {*b}) for a, b in zip(positions, expected, strict=True)]) >= 4
    for found, score, query in zip(positions, scores, QUERIES, strict=True):
        own = signs[found] @ query / np.linalg.norm(query) / np.sqrt(40)
        np.testing.assert_allclose(score, own, atol=1e-6)
        assert list(score) == sorted(score, reverse=True)


def test_bits_are_counted_without_numpy_2(monkeypatch) -> None:
    stored = quantize(ROWS, "ubinary")
    with_numpy = searching.search(stored, sidecar("ubinary"), QUERIES, 5, 1)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    without = searching.search(stored, sidecar("ubinary"), QUERIES, 5, 1)
    np.testing.assert_array_equal(with_numpy[0], without[0])


def test_of_equal_rows_the_earlier_comes_first(monkeypatch) -> None:
    monkeypatch.setattr(searching, "_BLOCK_BYTES", 40 * 4 * 3)
    same = np.tile(ROWS[:1], (10, 1))
    facts = sidecar("float32", normalized=True, num_rows=10)
    positions, _ = searching.search(same, facts, QUERIES[:1], 4, 2)
    assert positions.tolist() == [[0, 1, 2, 3]]


@pytest.fixture
def saved(load, tmp_path):
    model = load()
    (tmp_path / "a.txt").write_text("good food\nbad water\nold house\nnew river\n")
    encode_files(model, tmp_path / "a.txt", tmp_path / "a.npy")
    return model, tmp_path / "a.npy"


def test_questions(saved) -> None:
    model, path = saved
    vectors = Vectors.open(path)
    ((best, second),) = vectors.search(model, "old house", top=2)
    assert (best.row, best.id, best.text) == (2, 2, "old house")
    assert best.score == pytest.approx(1, abs=1e-5)
    assert best.score > second.score
    assert len(vectors.search(model, ["good", "bad"], top=99)[1]) == 4
    assert isinstance(vectors.rows, np.memmap)


def test_questions_take_the_stored_prompt(load, tmp_path) -> None:
    model = load(bundle={"changes": {"prompts": {"query": "the old "}}})
    (tmp_path / "a.txt").write_text("good food\nthe old house\n")
    encode_files(model, tmp_path / "a.txt", tmp_path / "a.npy")
    (hits,) = Vectors.open(tmp_path / "a.npy").search(model, "house")
    assert hits[0].text == "the old house"
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_wrong_questions(saved, load) -> None:
    _, path = saved
    vectors = Vectors.open(path)
    with pytest.raises(CorpusError, match=r"queries have shape \(1, 3\)"):
        vectors.nearest(np.zeros((1, 3)))
    with pytest.raises(CorpusError, match="top=0 shows nothing"):
        vectors.nearest(np.zeros((1, vectors.facts.dimensions)), top=0)
    with pytest.raises(CorpusError, match="the rows were made by"):
        vectors.search(load(bundle={"seed": 1}), "x")


def test_outputs_that_are_not_whole(saved, tmp_path) -> None:
    _, path = saved
    data = path.read_bytes()
    for cut in (0, 50, 200):
        path.write_bytes(data[:cut])
        with pytest.raises(CorpusError, match=r"a\.npy cannot be read"):
            Vectors.open(path)
    path.write_bytes(data)
    np.save(path, np.zeros((4, 3), dtype=np.float32))
    with pytest.raises(CorpusError, match=r"holds float32 \(4, 3\); expected float32"):
        Vectors.open(path)
    path.write_bytes(data)
    rows = path.with_name("a.npy.rows.jsonl")
    lines = rows.read_bytes()
    rows.write_bytes(lines[: lines.index(b"\n") + 1])
    with pytest.raises(CorpusError, match="has 4 rows, and 1 are named beside it"):
        Vectors.open(path)
    rows.write_bytes(b"")
    with pytest.raises(CorpusError, match="0 are named beside it"):
        Vectors.open(path)
    rows.write_bytes(lines)
    facts = path.with_name("a.npy.json")
    stated = json.loads(facts.read_bytes())
    facts.write_text(json.dumps(stated | {"schema": 9}))
    with pytest.raises(CorpusError, match="is of schema 9"):
        Vectors.open(path)
    facts.write_text("{")
    with pytest.raises(CorpusError, match=r"a\.npy\.json cannot be read"):
        Vectors.open(path)
    facts.unlink()
    with pytest.raises(CorpusError, match=r"a\.npy\.json is missing"):
        Vectors.open(path)
    with pytest.raises(CorpusError, match=r"b\.npy does not exist"):
        Vectors.open(tmp_path / "b.npy")
    with pytest.raises(CorpusError, match=r"ends in '\.txt'"):
        Vectors.open(tmp_path / "a.txt")


def test_lines_that_are_too_many_or_too_few(saved, tmp_path) -> None:
    model, _ = saved
    path = tmp_path / "a.jsonl"
    encode_files(model, tmp_path / "a.txt", path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(CorpusError, match="has 3 rows; expected 4"):
        Vectors.open(path)
    path.write_bytes(b"".join([*lines, lines[0]]))
    with pytest.raises(CorpusError, match="has more than 4 rows"):
        Vectors.open(path)


def test_no_row_at_all(load, tmp_path) -> None:
    model = load()
    (tmp_path / "a.txt").write_text("")
    encode_files(model, tmp_path / "a.txt", tmp_path / "a.npy")
    assert Vectors.open(tmp_path / "a.npy").search(model, "x") == [[]]
    pytest.importorskip("pyarrow")
    with pytest.raises(CorpusError, match="expected one at least"):
        encode_files(model, tmp_path / "a.txt", tmp_path / "a.parquet")


def test_parquet_of_others(saved, tmp_path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"embedding": [[1.0]]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="was not written by embedge"):
        Vectors.open(tmp_path / "a.parquet")
