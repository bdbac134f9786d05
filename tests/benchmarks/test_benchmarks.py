"""Benchmarks without timings: texts are the same every time, and tables follow from the results file."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from benchmarks.corpus import choose, documents, fingerprint, joined
from benchmarks.jobs import page
from benchmarks.jobs.systems import SYSTEMS
from benchmarks.machine import machine
from benchmarks.operators.timing import ceilings
from benchmarks.plans import PLANS
from benchmarks.subjects import REFERENCE, SUBJECTS
from benchmarks.watched import Watched

from benchmarks import __main__ as command
from benchmarks import cases, models, profiling, report, runner, scaling, tables, targets

POOL = [(size, "word " * size) for size in range(3, 400)] * 30
RESULTS = [file for file in report.RESULTS.glob("cpu*.json") if not file.stem.endswith("operators")]


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

    assert fingerprint(texts)[:16] == "e8564cf6a54890e1"


def test_the_mean_length_of_passages_is_84_tokens():
    sizes = [min(cases.CASES["passages"].max_tokens, size) for size in cases.sizes("passages")]

    assert 83 <= sum(sizes) / len(sizes) <= 85


def test_the_corpus_is_prose(monkeypatch, tmp_path):
    docstring = '"""A line of plain words.\n\n>>> code()\n1\n"""'
    (tmp_path / "module.py").write_text(f'{docstring}\ndef f():\n    "x=1; y=2; z=3"\n')
    monkeypatch.setattr("benchmarks.corpus._roots", lambda: [tmp_path])

    assert documents() == ["A line of plain words."]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_tables_follow_from_the_results(file):
    results = json.loads(file.read_text())

    expected = report.render(results, report.operators_beside(file, results))
    assert expected == file.with_suffix(".md").read_text()


def test_the_page_shows_the_results_and_nothing_else():
    file = report.RESULTS / "cpu.json"
    page = report.PAGE.read_text()
    shown = page.split(report.BEGIN)[1].split(report.END)[0].strip()
    if not file.is_file():
        assert shown == ""
        return
    results = json.loads(file.read_text())

    assert shown == report.section(results, "cpu", report.operators_beside(file, results))


def _subject(label, precision, runs, cosine=(1.0, 1.0)):
    return {
        "label": label,
        "precision": precision,
        "file_mb": 1.0,
        "install_mb": 2.0,
        "runs": [{"round": number, "others_cores": 0.0} | run for number, run in enumerate(runs)],
        "agreement": {"cosine_min": cosine[0], "cosine_mean": cosine[1]},
    }


def _results(case, subjects, model="minilm", texts=2000):
    entry = {
        "model": model,
        "label": "a model",
        "case": case,
        "date": "2026-01-02",
        "sources": "abc",
        "threads": 2,
        "texts": {
            "texts": texts, "tokens": 84 * texts, "tokens_mean": 84.0, "tokens_max": 256, "own_length": 100.0,
            "sha256": "0" * 64,
        },
        "subjects": subjects,
    }  # fmt: skip
    chip = {"cpu": "a chip", "family": "", "model": "", "cores": 2, "flags": [], "system": "Linux"}
    return {"schema": runner.SCHEMA, "machine": chip, "cases": {f"{model}/{case}": entry}}


def _rates(*rates):
    return [{"texts_per_s": rate, "tokens_per_s": 84 * rate} for rate in rates]


def _outcome(results, ours, theirs, measured=None):
    found = [
        outcome
        for outcome in targets.evaluate(results, measured)
        if outcome.target.ours == ours and getattr(outcome.target, "theirs", None) == theirs
    ]
    return next(outcome for outcome in found if outcome.target.case == "passages")


def test_ratios_are_paired_by_round():
    entry = {
        "subjects": {
            "embedge-fp32": {
                "runs": [
                    {"round": 0, "p50_ms": 1.0},
                    {"round": 1, "p50_ms": 10.0},
                    {"round": 2, "p50_ms": 2.0},
                ]
            },
            REFERENCE: {
                "runs": [
                    {"round": 2, "p50_ms": 2.0},
                    {"round": 0, "p50_ms": 3.0},
                    {"round": 1, "p50_ms": 30.0},
                ]
            },
            "fastembed": {"runs": [{"round": 7, "p50_ms": 1.0}]},
        }
    }

    assert tables.ratio(entry, "embedge-fp32", REFERENCE, "p50_ms") == 3.0
    assert tables.ratio(entry, REFERENCE, "embedge-fp32", "p50_ms") == pytest.approx(1 / 3)
    assert tables.ratio(entry, "embedge-fp32", "fastembed", "p50_ms") is None


@pytest.mark.parametrize(
    ("rates", "met"), [((190, 192, 100, 193, 400), True), ((189, 150, 300, 189, 189), False)]
)
def test_a_target_is_judged_by_the_median_of_the_rounds(rates, met):
    results = _results(
        "passages",
        {
            "embedge-fp32": _subject("embedge fp32", "float32", _rates(*rates)),
            REFERENCE: _subject("st", "float32", _rates(100, 100, 100, 100, 100)),
        },
    )

    outcome = _outcome(results, "embedge-fp32", REFERENCE)

    assert outcome.met is met
    assert outcome.measured.startswith("1.92x (1.00–4.00)" if met else "1.89x (1.50–3.00)")


def test_an_upper_bound_divides_ours_by_theirs():
    runs = {"embedge-int8": [1.0] * 5, "fastembed": [2.5] * 5}
    results = _results(
        "query", {name: _subject(name, "float32", [{"p50_ms": ms} for ms in of]) for name, of in runs.items()}
    )

    outcome = next(o for o in targets.evaluate(results, None) if o.met is not None)

    assert (outcome.target.measure, outcome.measured, outcome.met) == (
        "single query p50, int8",
        "0.40x (0.40–0.40)",
        True,
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "texts", "met"),
    [
        ((0.9975, 0.9990), (0.98, 0.99), 2000, True),
        ((0.9955, 0.9990), (0.98, 0.99), 2000, False),  # the worst text
        ((0.9975, 0.9984), (0.98, 0.99), 2000, False),  # the mean
        ((0.9975, 0.9990), (0.998, 0.999), 2000, False),  # theirs is closer
        ((0.9975, 0.9990), (0.98, 0.99), 900, False),  # too few texts to say
    ],
)
def test_a_speed_that_costs_fidelity_does_not_count(ours, theirs, texts, met):
    results = _results(
        "passages",
        {
            "embedge-int8": _subject("embedge int8", "int8", _rates(*[140] * 5), ours),
            "ctranslate2-int8": _subject("ct2", "int8", _rates(*[100] * 5), theirs),
        },
        texts=texts,
    )

    outcome = _outcome(results, "embedge-int8", "ctranslate2-int8")

    assert outcome.met is met
    assert f"cosine mean {ours[1]:.5f}, min {ours[0]:.5f} on {texts:,} passages" in outcome.remark


def test_the_share_of_the_ceiling_counts_all_matrix_products():
    results = _results("passages", {"embedge-fp32": _subject("embedge fp32", "float32", _rates(100))})
    # 84 tokens x 100 texts; 6 layers of 2 * (4 * 384^2 + 2 * 384 * 1536) and 4 * 100 * 384 for attention
    rate = 8400 * 6 * (2 * (4 * 384**2 + 2 * 384 * 1536) + 4 * 100 * 384) / 1e9
    measured = {"ceilings": {"float32 384": 2 * rate}, "onnxruntime": "1"}

    assert _outcome(results, "embedge-fp32", None, measured).measured == "50 %"
    assert _outcome(results, "embedge-fp32", None).met is None
    assert f"| embedge fp32 | {2 * rate:,.0f} | {rate:,.0f} (50 %) |" in tables.roofline(
        results, "minilm", measured
    )


def test_the_ceiling_is_the_best_form_of_a_whole_layer():
    shapes = [("(512, 384) x (384, 384)", 384, 384), ("(512, 384) x (384, 1536)", 384, 1536)]
    shapes.append(("(512, 1536) x (1536, 384)", 1536, 384))
    flop = {shape: 2 * 512 * k * n for shape, k, n in shapes}
    measured = [
        {"name": name, "threads": mode, "shape": shape, "ms": flop[shape] / gflops / 1e6}
        for name, mode, gflops in (("MatMul", "1x2", 100), ("Gemm", "2x1", 120), ("BiasGelu", "2x1", 900))
        for shape, _, _ in shapes
    ]

    assert ceilings(measured) == {"float32 384": pytest.approx(120)}
    assert ceilings(measured[:2]) == {}


def test_targets_without_measurements_say_so():
    lines = targets.render({"cases": {}}, None).splitlines()

    assert len(lines) == 2 + len(targets.TARGETS)
    assert all(line.endswith("| not measured |") for line in lines[2:])


def test_a_failed_subject_is_named_with_its_reason():
    failed = {"label": "other", "precision": "float32", "runs": [], "error": "offers no | cross-encoders"}
    results = _results(
        "rerank",
        {"embedge-fp32": _subject("embedge fp32", "float32", [{"pairs_per_s": 5.0}]), "optimum": failed},
    )

    text = report.render(results)

    assert "| other | – |" in text
    assert "failed: offers no / cross-encoders" in text
    assert "correlation with float32's scores, min / mean" in text


def test_missing_rounds_are_counted_for_subjects_that_work():
    entry = {
        "subjects": {
            "a": {"runs": [{"round": 0}, {"round": 1}, {"round": 2}]},
            "b": {"runs": [{"round": 0}, {"round": 2}]},
            "c": {"runs": [], "error": "not installed"},
        }
    }

    assert runner.missing(entry, ["a", "b", "c"], 5) == 3
    assert runner.missing(entry, ["a"], 3) == 0
    assert runner.missing(entry, ["c"], 5) == 0


def test_only_rounds_of_the_same_sources_and_texts_are_continued():
    old = {"sources": "abc", "texts": {"sha256": "1"}, "subjects": {"a": {"runs": [{"round": 0}]}}}

    assert runner.entry_for(old, {"sha256": "1"}, "abc") is old
    assert runner.entry_for(old, {"sha256": "1"}, "def")["subjects"] == {}
    assert runner.entry_for(old, {"sha256": "2"}, "abc")["subjects"] == {}
    assert runner.entry_for(None, {"sha256": "1"}, "abc")["sources"] == "abc"


def test_results_of_another_machine_are_not_mixed_in(tmp_path):
    file = tmp_path / "cpu.json"
    runner.write(file, {"schema": runner.SCHEMA, "machine": {"cpu": "another"}, "cases": {"x": 1}})

    assert runner.open_results(file)["cases"] == {}

    runner.write(file, {"schema": runner.SCHEMA, "machine": machine(), "cases": {"x": 1}})
    assert runner.open_results(file)["cases"] == {"x": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["cpu.json"]


def test_queries_are_dealt_their_own_documents():
    texts = ["q0", "q1", "a", "b", "c", "d"]

    assert list(cases.pairs(texts, 2)) == [("q0", "a"), ("q0", "b"), ("q1", "c"), ("q1", "d")]


def test_a_share_of_the_reranking_case_keeps_whole_queries():
    case = cases.CASES["rerank"]

    assert case.scaled(1.0) == 1000
    assert case.scaled(0.1) == 100
    assert case.scaled(0.0) == 40


def test_documents_are_joined_until_they_are_long_enough():
    found = list(joined([(5, "a b c"), (4, "d e"), (9, "f g h i j k l"), (3, "m")], 5))

    assert found == [(7, "a b c d e"), (9, "f g h i j k l")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["run", "--repeats", "0"], "run: error: --repeats 0: expected at least 1"),
        (["run", "--threads", "0"], "run: error: --threads 0: expected at least 1"),
        (["run", "--patience", "inf"], "run: error: --patience inf: expected 0 to 3,600 seconds"),
        (["run", "--patience", "-1"], "run: error: --patience -1: expected 0 to 3,600 seconds"),
        (["table", "--name", "gone"], "table: error: --name gone: there are no results "),
        (["run", "--share", "5"], "run: error: --share 5: expected more than 0, at most 1, the whole"),
        (["run", "--cases", "nope"], "run: error: nope: expected MODEL/CASE, of minilm, "),
        (["scaling", "--curves", "nope"], "scaling: error: nope: expected some of lengths, "),
    ],
)
def test_wrong_calls_are_refused_before_any_result_is_replaced(given, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *given])
    monkeypatch.setattr(runner, "run", lambda **_: pytest.fail("it was measured"))

    with pytest.raises(SystemExit):
        command.main()

    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "prepare", "scaling", "profile"])
def test_an_environment_that_is_not_there_is_named_with_how_it_is_made(verb, tmp_path, monkeypatch, capsys):
    (tmp_path / ".venvs" / "embedge").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["benchmarks", verb])
    monkeypatch.setattr(command, "ROOT", tmp_path)

    with pytest.raises(SystemExit):
        command.main()

    said = capsys.readouterr().err
    assert ".venvs/embedge," not in said
    assert ".venvs/torch: no such environment here; `make " in said
    assert ".venvs/torch/.installed` makes what is missing" in said


def test_every_curve_runs_in_the_environments_that_are_asked_for():
    used = {SUBJECTS[name].environment for curve in scaling.CURVES.values() for name in curve.subjects}
    assert used | {"torch"} == set(scaling.ENVIRONMENTS)


@pytest.mark.parametrize(("run_mb", "met"), [(399.9, True), (400.1, False), (None, None)])
def test_the_memory_of_a_long_text_is_read_from_its_curve(run_mb, met):
    points = {} if run_mb is None else {"8192": {"run_mb": run_mb}, "4096": {"run_mb": 1.0}}
    curve = {"subjects": {"embedge-int8": {"points": points}}}
    found = {
        outcome.target.ours: outcome.met
        for outcome in targets.evaluate({"cases": {}, "scaling": {"one-modernbert": curve}}, None)
        if isinstance(outcome.target, targets.Memory)
    }
    assert found == {"embedge-fp32": None, "embedge-int8": met}


def test_plans_name_what_exists():
    for plan in PLANS.values():
        for key in plan.cases:
            model, case = key.split("/")
            assert model in tables.MODELS
            assert case in cases.CASES
        assert set(plan.subjects) <= set(SUBJECTS)
    compared = {target.theirs for target in targets.TARGETS if isinstance(target, targets.Target)}
    assert compared <= {*PLANS["main"].subjects, *PLANS["peers"].subjects}


def test_curves_become_a_table_with_a_row_per_point():
    points = {
        "100": {
            "seconds": 0.5,
            "texts_per_s": 200.0,
            "first_rss_mb": 90.0,
            "peak_rss_mb": 95.0,
            "cosine_min": 0.99,
        },
        "1000": {"error": "took longer than 900 s"},
    }
    entry = {"model": "tiny", "subjects": {"embedge-fp32": {"label": "embedge fp32", "points": points}}}

    text = report.curve_table("texts-tiny", entry)

    assert "| 100 | 0.50 | 200 | 90.0 | 95.0 | 0.99000 |" in text
    assert "| 1,000 | failed |" in text
    assert "embedge fp32 failed: took longer than 900 s" in text
    assert set(scaling.CURVES["texts-tiny"].points) >= {100, 1_000_000}


def test_a_profile_says_what_a_faster_graph_could_win():
    def event(name, operator, duration):
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration, "args": {"op_name": operator}}

    events = [event("a", "MatMul", us) for us in (9000, 5000, 6000, 7000)]
    events += [event("b", "MatMul", 2000), event("c", "Gelu", 1000), event("d", "MultiHeadAttention", 2000)]
    events += [
        {"cat": "Session", "name": "model_run", "dur": 1},
        {**event("e", "Gelu", 9), "name": "e_fence"},
    ]
    operators = profiling.summed(events)
    assert list(operators) == ["MatMul", "MultiHeadAttention", "Gelu"]
    assert operators["MatMul"] == {"nodes": 2, "ms": 7.25}  # 5.25 is the lower quartile of the first
    results = {"profile": {"model": "minilm", "batch": [8, 64], "runs": 4, "variants": {"fp32": operators}}}
    said = profiling.explain(results)
    # 512 tokens x 6 layers x 2 x 1,769,472 weights in 7.25 ms
    assert "71 % of the time is in the products with weights, at 1,500 GFLOP/s, 20 % in attention" in said
    assert "it would be 1.11 times as fast" in said
    assert "| Gelu | 1 | 1.00 | 9.8 % |" in profiling.render(results)
    assert profiling.render({}) == profiling.explain({}) == ""


def test_wrong_vectors_are_reported_and_not_dropped():
    results = _results("short", {"other": _subject("other", "float32", _rates(5.0), (0.7, 0.98))})

    assert "0.70000 / 0.98000 (other answers)" in tables.overview(results, "minilm")


def test_every_subject_has_a_module_with_the_same_shape():
    for subject in SUBJECTS.values():
        source = (report.ROOT / "benchmarks" / "subjects" / f"{subject.module}.py").read_text()
        for name in ("\nPACKAGES = ", "\ndef load(job)", "\ndef files(job)"):
            assert name in source, (subject.module, name)


def test_the_page_shows_the_measured_jobs():
    file = report.RESULTS / "jobs.json"
    shown = report.PAGE.read_text().split(page.BEGIN)[1].split(page.END)[0].strip()

    assert shown == (page.section(json.loads(file.read_text())) if file.is_file() else "")


def test_a_systems_lines_are_those_that_a_user_writes():
    lines = {name: system.lines for name, system in SYSTEMS.items()}

    assert lines["embedge-int8"] == lines["llm"] == 1
    assert lines["txtai"] == 8


def test_a_watched_program_counts_its_children():
    takes = "text = b'x' * 60_000_000; import time; time.sleep(0.5)"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {takes!r}])"

    assert Watched([sys.executable, "-c", starts]).wait()["peak_mb"] > 70
    with pytest.raises(SystemExit, match="why it failed"):
        Watched([sys.executable, "-c", "raise SystemExit('why it failed')"]).wait()


def test_what_an_environment_lacks_is_one_sentence(capsys):
    import benchmarks

    error = ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
    benchmarks._say_what_is_missing(type(error), error, None)
    assert "No module named 'pyarrow' in " in capsys.readouterr().err
    for error in (ModuleNotFoundError("optimum is needed: pip install it"), ValueError("a value")):
        benchmarks._say_what_is_missing(type(error), error, None)
        said = capsys.readouterr().err
        assert str(error) in said
        assert "Makefile" not in said


def test_measuring_processes_import_little_of_their_own():
    own = "import sys; before = set(sys.modules); import benchmarks.child; print(*sorted(set(sys.modules) - before))"
    told = subprocess.run(
        [sys.executable, "-c", own], capture_output=True, text=True, check=True, cwd=models.ROOT
    )
    assert not {"typing", "dataclasses", "pathlib", "argparse"} & set(told.stdout.split())
    assert "benchmarks.disturbed" in told.stdout
