"""Rows compared with rows: near duplicates and the nearest in another output, as by hand."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from tests.sdk.corpus.test_searching import sidecar

from embedge import CorpusError
from embedge._corpus import comparing
from embedge._corpus.kept import Kept
from embedge._corpus.precision import find_ranges, quantize
from embedge.cli.main import main
from embedge.corpus import Duplicate, Vectors, encode_files

RNG = np.random.default_rng(5)
CENTRES = RNG.normal(size=(30, 40))
ROWS = (CENTRES[RNG.integers(0, 30, 200)] + RNG.normal(size=(200, 40)) * 0.3).astype(np.float32)
ROWS[150] = ROWS[3] * 2


def by_hand(numbers, threshold):
    unit = numbers.astype(np.float64) / np.linalg.norm(numbers.astype(np.float64), axis=1, keepdims=True)
    originals, found = [], []
    for row, one in enumerate(unit):
        cosines = unit[originals] @ one
        if originals and cosines.max() >= threshold:
            best = int(cosines.argmax())
            found.append((row, originals[best], cosines[best]))
        else:
            originals.append(row)
    return found


@pytest.mark.parametrize("block", [7, 64, 2048])
@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_duplicates_by_hand(monkeypatch, block, precision) -> None:
    monkeypatch.setattr(comparing, "_BLOCK", block)
    ranges = find_ranges(ROWS)
    rows = quantize(ROWS, precision, ranges)
    kept = Kept(rows=rows, sidecar=sidecar(precision, ranges.tolist(), num_rows=len(ROWS)))
    found = list(comparing.find_duplicates(kept, 0.88, 2))
    expected = by_hand(kept.numbers(slice(None)), 0.88)
    assert [each.row for each in found] == [row for row, *_ in expected]
    if precision != "binary":  # where many are equally near
        assert [each.of for each in found] == [of for _, of, _ in expected]
    np.testing.assert_allclose([each.score for each in found], [score for *_, score in expected], atol=1e-5)
    assert 20 < len(found) < 180


def test_equal_rows_are_near_at_one() -> None:
    kept = Kept(rows=ROWS, sidecar=sidecar("float32", num_rows=len(ROWS)))
    (found,) = comparing.find_duplicates(kept, 1.0, 1)
    assert (found.row, found.of) == (150, 3)


@pytest.fixture
def saved(load, tmp_path):
    model = load()
    texts = ["good food", "bad water", "good food", "old house", "bad water"]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": t, "id": f"r{i}"}) + "\n" for i, t in enumerate(texts))
    )
    (tmp_path / "b.txt").write_text("old house\nnew river\n")
    encode_files(model, tmp_path / "a.jsonl", tmp_path / "a.npy", id_column="id")
    encode_files(model, tmp_path / "b.txt", tmp_path / "b.npy")
    return tmp_path / "a.npy", tmp_path / "b.npy"


def test_written_without_duplicates(saved, tmp_path) -> None:
    vectors = Vectors.open(saved[0])
    found = vectors.duplicates(0.9999)
    assert found == [
        Duplicate(row=2, of=0, score=pytest.approx(1)),
        Duplicate(row=4, of=1, score=pytest.approx(1)),
    ]
    made = vectors.write_without([each.row for each in found], tmp_path / "c.jsonl")
    assert (made.ids, len(made)) == (["r0", "r1", "r3"], 3)
    np.testing.assert_array_equal(made.rows, vectors.rows[[0, 1, 3]])
    small = vectors.quantize(tmp_path / "s.npy", "int8")
    again = small.write_without([1], tmp_path / "t.npy")
    assert again.facts.ranges == small.facts.ranges
    np.testing.assert_array_equal(again.rows, small.rows[[0, 2, 3, 4]])
    for threshold in (0, 1.1, True, "x"):
        with pytest.raises(CorpusError, match="is out of range; expected a cosine"):
            vectors.duplicates(threshold)


def test_the_nearest_in_another_output(saved, tmp_path) -> None:
    vectors, others = map(Vectors.open, saved)
    found = list(vectors.similar(others, top=2))
    expected = others.nearest(vectors.dequantize(), top=2)
    assert found == expected
    assert (found[3][0].text, len(found)) == ("old house", 5)
    own = [hits[0] for hits in vectors.similar(vectors)]
    assert [own[index].row for index in (0, 1, 2, 4)] == [2, 4, 0, 1]
    assert own[3].row != 3
    with pytest.raises(CorpusError, match="top=0 shows nothing"):
        vectors.similar(others, top=0)
    facts = saved[1].with_name("b.npy.json")
    stated = msgspec.json.decode(facts.read_bytes())
    facts.write_bytes(msgspec.json.encode(stated | {"fingerprint": "0" * 64}))
    with pytest.raises(CorpusError, match="expected rows of one bundle"):
        vectors.similar(Vectors.open(saved[1]))


def test_the_commands(saved, tmp_path, capsys) -> None:
    a, b = map(str, saved)
    assert main(["dedup", a, "--threshold", "0.9999", "--json", "-o", str(tmp_path / "c.npy")]) == 0
    out, err = capsys.readouterr()
    assert [(row["id"], row["of_id"]) for row in map(json.loads, out.splitlines())] == [
        ("r2", "r0"),
        ("r4", "r1"),
    ]
    assert "2 of 5 rows are near an earlier one, 3 are not" in err
    assert Vectors.open(tmp_path / "c.npy").ids == ["r0", "r1", "r3"]
    assert main(["dedup", a, "-o", str(tmp_path / "c.npy")]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["dedup", a, "--threshold", "0.9999"]) == 0
    assert "near  r0 good food" in capsys.readouterr().out
    assert main(["similar", a, b, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (rows[3]["id"], rows[3]["rows"][0]["text"]) == ("r3", "old house")
    assert main(["similar", a, b, "--least", "0.9999"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == ["r3 old house", "1.0000 0 old house"]
