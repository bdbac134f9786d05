"""Workers and batch sizes: by rule, or as measured and saved for this machine; the commands that do it."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from embedge import EdgeModel
from embedge._machine.cpu import cpu_name
from embedge._sessions.tuning import (
    Tuning,
    TuningRecord,
    default_tuning,
    find_tuning,
    save_tuning,
    splits,
    tuning_file,
)
from embedge.cli.main import main

PRINT = "ab" * 32
TEXTS = [f"the river is cold {'and the city ' * (i % 7)}" for i in range(120)]


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def record(fingerprint: str = PRINT, threads: int = 2, **changes) -> TuningRecord:
    import onnxruntime

    made = TuningRecord(
        fingerprint=fingerprint,
        variant="fp32",
        cpu=cpu_name(),
        onnxruntime=onnxruntime.__version__,
        threads=threads,
        tuning=Tuning(workers=1, threads_per_worker=2, batch_tokens=64),
        texts_per_s=100.0,
    )
    return msgspec.structs.replace(made, **changes)


def test_splits_use_every_processor() -> None:
    assert splits(1) == [(1, 1)]
    assert splits(2) == [(2, 1), (1, 2)]
    assert splits(12) == [(12, 1), (6, 2), (4, 3), (3, 4), (2, 6), (1, 12)]
    assert default_tuning(3) == Tuning(workers=3, threads_per_worker=1, batch_tokens=512)


def test_nothing_saved_means_the_rule(store) -> None:
    assert find_tuning(PRINT, "fp32", 2) == (default_tuning(2), "rule: one worker per processor")
    assert not store.exists()


def test_what_was_saved_is_found_for_the_same_graph_and_machine_only() -> None:
    path = save_tuning(record())
    assert path == tuning_file(PRINT, "fp32")
    tuning, reason = find_tuning(PRINT, "fp32", 2)
    assert tuning == record().tuning
    assert reason == f"measured by embedge bench: {path}"
    assert find_tuning(PRINT, "int8", 2)[0] == default_tuning(2)
    assert find_tuning("cd" * 32, "fp32", 2)[0] == default_tuning(2)
    tuning, reason = find_tuning(PRINT, "fp32", 3)
    assert tuning == default_tuning(3)
    assert "holds for 2 threads of" in reason
    save_tuning(record(onnxruntime="0.1"))
    assert "with onnxruntime 0.1, and this is" in find_tuning(PRINT, "fp32", 2)[1]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"fingerprint": 3}', b"\xff"])
def test_a_file_that_cannot_be_read_is_named_and_not_used(content) -> None:
    path = save_tuning(record())
    path.write_bytes(content)
    tuning, reason = find_tuning(PRINT, "fp32", 2)
    assert tuning == default_tuning(2)
    assert reason.startswith(f"rule: {path} cannot be used (")


@pytest.mark.parametrize("profile", ["latency", "throughput", "background"])
@pytest.mark.parametrize("split", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_answers_do_not_depend_on_the_split(tiny, profile, split) -> None:
    folder = tiny()
    with EdgeModel(folder, device="cpu", threads=2) as model:
        expected = model.embed(TEXTS).numpy()
        fingerprint = model.info.fingerprint
        assert model.info.tuning_reason == "rule: one worker per processor"
    tuning = Tuning(workers=split[0], threads_per_worker=split[1], batch_tokens=40)
    threads = 1 if profile == "background" else 2
    save_tuning(record(fingerprint, threads, tuning=tuning))
    with EdgeModel(folder, device="cpu", threads=2, profile=profile) as model:
        assert np.abs(model.embed(TEXTS).numpy() - expected).max() < 1e-6
        assert np.abs(model.embed(TEXTS[:1]).numpy() - expected[:1]).max() < 1e-6
        if profile == "background":
            assert (model.info.workers, model.info.tuning_reason) == (1, "profile: one worker")
        else:
            assert (model.info.workers, model.info.max_batch_tokens) == (split[0], 40)
            assert model.info.tuning_reason.startswith("measured by embedge bench: ")
    with EdgeModel(folder, device="cpu", threads=2, profile=profile, max_batch_tokens=99) as model:
        assert model.info.max_batch_tokens == 99


def test_bench_measures_every_split_and_saves_the_best_only_when_asked(tiny, store, capsys, tmp_path) -> None:
    folder = tiny()
    texts = tmp_path / "texts.txt"
    texts.write_text("the river is cold\n\nthe city\n")
    command = ["bench", str(folder), "--splits", "--threads", "2", "--count", "40", "--texts", str(texts)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "one text of 6 tokens: p50" in shown
    assert len([line for line in shown.splitlines() if line.endswith("best")]) == 1
    assert not store.exists()
    assert main([*command, "--json", "--save"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert len(figures["speeds"]) == 8
    assert {(s["tuning"]["workers"], s["tuning"]["threads_per_worker"]) for s in figures["speeds"]} == {
        (2, 1),
        (1, 2),
    }
    assert all(s["texts_per_s"] > 0 for s in figures["speeds"])
    with EdgeModel(folder, device="cpu", threads=2) as model:
        assert model.info.workers == figures["record"]["tuning"]["workers"]
        assert model.info.tuning_reason == f"measured by embedge bench: {figures['saved']}"


@pytest.mark.parametrize(
    "kind", ["cross_encoder", "classify", "late_interaction", "llm_reranker", "sparse", "reward"]
)
def test_bench_measures_every_kind_of_bundle(tiny, kind, capsys) -> None:
    assert main(["bench", str(tiny(kind)), "--splits", "--threads", "1", "--count", "20", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["speeds"]) == 4


def test_bench_refuses_an_empty_file(tiny, tmp_path, capsys) -> None:
    (tmp_path / "empty").write_text("\n")
    assert main(["bench", str(tiny()), "--texts", str(tmp_path / "empty")]) == 1
    assert "holds no line" in capsys.readouterr().err


def test_doctor_says_what_is_here(capsys, monkeypatch, store) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["threads"] >= 1
    assert "CPUExecutionProvider" in found["providers"]
    assert found["store"] == str(store)
    assert found["bundles"] == []
    assert found["packages"]["numpy"] == np.__version__
    assert found["telemetry"] == "left to ORT_DISABLE_TELEMETRY=0"
    assert main(["doctor"]) == 0
    assert "CPUExecutionProvider" in capsys.readouterr().out
