"""Saved rows are searched: the same rows as by hand, in every precision; what is not whole is refused."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from embedge import CorpusError
from embedge._corpus import searching
from embedge._corpus.kept import Kept
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


def kept(stored, facts):
    return Kept(rows=stored, sidecar=facts)


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if "binary" not in name])
@pytest.mark.parametrize("normalized", [False, True])
def test_the_nearest_by_hand(monkeypatch, precision, normalized) -> None:
    monkeypatch.setattr(searching, "_BLOCK_BYTES", 40 * 4 * 100)
    rows = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True) if normalized else ROWS
    ranges = find_ranges(rows)
    stored = quantize(rows, precision, ranges)
    facts = sidecar(precision, ranges.tolist(), normalized=normalized)
    numbers = dequantize(stored, precision, 40, ranges)
    positions, scores = searching.search(kept(stored, facts), QUERIES, 7, 2)
    expected, cosines = by_hand(numbers, QUERIES, 7)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_allclose(scores, cosines, atol=1e-6)


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_are_scored_by_the_querys_numbers(precision) -> None:
    stored = quantize(ROWS, precision)
    positions, scores = searching.search(kept(stored, sidecar(precision)), QUERIES, 5, 1)
    signs = dequantize(stored, precision, 40)
    expected, _ = by_hand(signs, QUERIES, 5)
    np.testing.assert_array_equal(positions, expected)
    for found, score, query in zip(positions, scores, QUERIES, strict=True):
        own = signs[found] @ query / np.linalg.norm(query) / np.sqrt(40)
        np.testing.assert_allclose(score, own, atol=1e-6)


@pytest.mark.parametrize("dimensions", [40, 64])
@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_candidates_have_the_fewest_other_signs(precision, dimensions) -> None:
    rows = RNG.normal(size=(300, dimensions)).astype(np.float32)
    (query,) = RNG.normal(size=(1, dimensions)).astype(np.float32)
    facts = sidecar(precision, dimensions=dimensions, num_rows=300)
    (found,), _ = searching.search(kept(quantize(rows, precision), facts), query[None], 3, 1, oversample=1)
    others = ((rows > 0) != (query > 0)).sum(1)
    assert sorted(others[found]) == sorted(others)[:3]


@pytest.mark.parametrize("finer", ["int8", "float16", "float32"])
def test_bits_are_rescored_by_finer_rows(finer) -> None:
    rows = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    ranges = find_ranges(rows)
    more = kept(quantize(rows, finer, ranges), sidecar(finer, ranges.tolist(), normalized=True))
    bits = kept(quantize(rows, "binary"), sidecar("binary"))
    positions, scores = searching.search(bits, QUERIES, 5, 2, finer=more, oversample=200)
    expected, cosines = searching.search(more, QUERIES, 5, 2)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_allclose(scores, cosines, atol=1e-6)


def test_bits_are_counted_without_numpy_2(monkeypatch) -> None:
    bits = kept(quantize(ROWS, "ubinary"), sidecar("ubinary"))
    with_numpy = searching.search(bits, QUERIES, 5, 1)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    without = searching.search(bits, QUERIES, 5, 1)
    np.testing.assert_array_equal(with_numpy[0], without[0])


def test_halves_of_every_size() -> None:
    """Each finite number of float16 has the product that numpy's own conversion gives."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 1).astype("<f2")
    with np.errstate(all="ignore"):
        (products,) = searching._by_halves(np.ones((1, 1), dtype=np.float32))(halves)
    np.testing.assert_array_equal(products, halves[:, 0].astype(np.float32))


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_of_equal_rows_the_earlier_comes_first(monkeypatch, precision) -> None:
    monkeypatch.setattr(searching, "_BLOCK_BYTES", 40 * 4 * 3)
    monkeypatch.setattr(searching, "_BITS_IN_BLOCK", 1)
    same = np.tile(ROWS[:1], (10, 1))
    ranges = find_ranges(ROWS)
    facts = sidecar(precision, ranges.tolist(), normalized=True, num_rows=10)
    positions, _ = searching.search(kept(quantize(same, precision, ranges), facts), QUERIES[:1], 4, 2)
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


def test_stored_again_in_fewer_bytes(load, tmp_path) -> None:
    model = load()
    texts = [f"{a} {b}" for a in ("good", "bad", "old") for b in ("food", "water", "house", "river")]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    encode_files(model, tmp_path / "a.txt", tmp_path / "a.npy")
    whole = Vectors.open(tmp_path / "a.npy")
    expected = whole.search(model, texts, top=3)
    for precision, name in (("int8", "b.npy"), ("binary", "c.jsonl"), ("ubinary", "d.npy")):
        small = whole.quantize(tmp_path / name, precision)
        assert (small.facts.precision, small.ids) == (precision, whole.ids)
        assert small.entry(3) == whole.entry(3)
        found = small.search(model, texts, top=3, rescore=whole, oversample=4)
        assert found == expected
        np.testing.assert_allclose(small.dequantize(), whole.dequantize(), atol=2)
    ranges = find_ranges(whole.dequantize())
    np.testing.assert_array_equal(
        Vectors.open(tmp_path / "b.npy").rows, quantize(whole.dequantize(), "int8", ranges)
    )
    with pytest.raises(CorpusError, match=r"c\.jsonl is there already"):
        whole.quantize(tmp_path / "c.jsonl", "int8")
    assert whole.quantize(tmp_path / "c.jsonl", "float16", overwrite=True).facts.precision == "float16"
    with pytest.raises(CorpusError, match="bits, whose numbers are gone"):
        Vectors.open(tmp_path / "d.npy").quantize(tmp_path / "e.npy", "int8")
    with pytest.raises(CorpusError, match="precision='int4' is not known"):
        whole.quantize(tmp_path / "e.npy", "int4")


def test_rescored_with_other_rows(saved, tmp_path) -> None:
    model, path = saved
    whole = Vectors.open(path)
    small = whole.quantize(tmp_path / "small.npy", "binary")
    (tmp_path / "b.txt").write_text("good food\nbad water\nold house\n")
    encode_files(model, tmp_path / "b.txt", tmp_path / "b.npy")
    with pytest.raises(CorpusError, match="have num_rows 3, and those searched 4"):
        small.search(model, "food", rescore=Vectors.open(tmp_path / "b.npy"))
    rows = tmp_path / "small.npy.rows.jsonl"
    rows.write_bytes(b"".join(reversed(rows.read_bytes().splitlines(keepends=True))))
    with pytest.raises(
        CorpusError, match="in the rows to rescore with; expected the same rows in the same order"
    ):
        Vectors.open(tmp_path / "small.npy").search(model, "food", rescore=whole)
    with pytest.raises(CorpusError, match="oversample=0 is out of range"):
        small.search(model, "food", rescore=whole, oversample=0)


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
