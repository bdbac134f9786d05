"""Benchmarks without timings: texts are the same every time, and tables follow from the results file."""

from __future__ import annotations

import json
import random

import pytest
from benchmarks import cases, tables
from benchmarks.corpus import choose, documents, fingerprint
from benchmarks.subjects import REFERENCE, SUBJECTS

POOL = [(size, "word " * size) for size in range(3, 400)] * 30
RESULTS = [file for file in tables.RESULTS.glob("cpu*.json") if not file.stem.endswith("operators")]


def _cut(text, size):
    return " ".join(text.split()[:size])


def test_texts_have_the_sizes_that_were_asked_for():
    texts = choose(POOL, [5, 300, 17], _cut, random.Random(0))

    assert [len(text.split()) for text in texts] == [5, 300, 17]


def test_no_document_is_used_twice():
    texts = choose([(9, "a"), (9, "b"), (9, "c")], [4, 4, 4], lambda text, _: text, random.Random(0))

    assert sorted(texts) == ["a", "b", "c"]


def test_too_many_long_texts_are_refused():
    with pytest.raises(ValueError, match="no document of 500 tokens is left"):
        choose(POOL, [500], _cut, random.Random(0))


def test_the_hash_of_drawn_texts_does_not_change():
    # the figures in results/ name their texts by hash: whoever changes how texts are drawn measures again
    texts = choose(POOL, cases.sizes("passages"), _cut, random.Random("0 texts passages"))

    assert fingerprint(texts)[:16] == "e82d2354cd33e455"


def test_the_mean_length_of_passages_is_84_tokens():
    sizes = [min(cases.MAX_TOKENS, size) for size in cases.sizes("passages")]

    assert 83 <= sum(sizes) / len(sizes) <= 85


def test_the_corpus_is_prose(monkeypatch, tmp_path):
    docstring = '"""A line of plain words.\n\n>>> code()\n1\n"""'
    (tmp_path / "module.py").write_text(f'{docstring}\ndef f():\n    "x=1; y=2; z=3"\n')
    monkeypatch.setattr("benchmarks.corpus._roots", lambda: [tmp_path])

    assert documents() == ["A line of plain words."]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_tables_follow_from_the_results(file):
    results = json.loads(file.read_text())

    assert tables.render(results, tables.operators_beside(file)) == file.with_suffix(".md").read_text()


def test_the_readme_shows_the_results():
    results = json.loads((tables.RESULTS / "cpu.json").read_text())
    readme = (tables.ROOT / "README.md").read_text()

    assert tables.readme_section(results, "cpu") in readme


def test_ratios_are_paired_by_round():
    entry = {
        "subjects": {
            "embedge-fp32": {"runs": [{"p50_ms": 1.0}, {"p50_ms": 10.0}, {"p50_ms": 2.0}]},
            REFERENCE: {"runs": [{"p50_ms": 3.0}, {"p50_ms": 30.0}, {"p50_ms": 2.0}]},
        }
    }

    assert tables.ratio(entry, "embedge-fp32", REFERENCE, "p50_ms") == 3.0
    assert tables.ratio(entry, REFERENCE, "embedge-fp32", "p50_ms") == pytest.approx(1 / 3)


def test_wrong_vectors_are_reported_and_not_dropped():
    subject = {
        "label": "other",
        "precision": "float32",
        "file_mb": 1.0,
        "install_mb": 2.0,
        "runs": [{"texts_per_s": 5.0}],
        "agreement": {"cosine_min": 0.7, "cosine_mean": 0.98},
    }
    results = {
        "cases": {"minilm/short": {"model": "minilm", "case": "short", "subjects": {"other": subject}}}
    }

    assert "0.70000 / 0.98000 (other answers)" in tables.overview(results, "minilm")


def test_every_subject_has_a_module_with_the_same_shape():
    for subject in SUBJECTS.values():
        source = (tables.ROOT / "benchmarks" / "subjects" / f"{subject.module}.py").read_text()
        for name in ("\nPACKAGES = ", "\ndef load(job)", "\ndef files(job)"):
            assert name in source, (subject.module, name)
