"""A bundle beside the libraries that are here: real ones, each in its process, and what becomes of those that fail."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tests.export.tiny import make_bert

from embedge import ParamsError
from embedge._peers import rounds, subjects
from embedge._peers.checkpoints import Checkpoint, find_checkpoint
from embedge._peers.process import Process, SubjectError
from embedge._peers.rounds import Texts, compare
from embedge._peers.subjects import other_subjects, own_subjects
from embedge.bundle import open_bundle
from embedge.cli.main import main
from embedge.measure import sample_texts

FASTEMBED = Path(__file__).parents[3] / ".venvs" / "fastembed" / "bin" / "python"
PASSAGES = sample_texts(40)
TEXTS = Texts(short=[" ".join(text.split()[:10]) for text in PASSAGES], passages=PASSAGES)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny checkpoint that comes with an ONNX graph, and its bundle."""
    from embedge_export.pipeline import export
    from embedge_export.spec import ExportSpec

    folder = tmp_path_factory.mktemp("peers")
    make_bert(folder / "checkpoint")
    bundle = export(ExportSpec(model=str(folder / "checkpoint"), output=folder / "bundle", name="tiny <b>"))
    shutil.copytree(bundle / "onnx", folder / "checkpoint" / "onnx")
    return folder / "checkpoint", open_bundle(bundle)


@pytest.fixture
def short(monkeypatch):
    """One round of short turns."""
    monkeypatch.setattr(rounds, "MOST_ROUNDS", 1)
    monkeypatch.setattr(rounds, "_TURN_S", (0.01, 0.02))


def ask(subjects, folder, **given):
    told = []
    found = compare(
        subjects,
        TEXTS,
        **{
            "folder": folder,
            "seconds": 120.0,
            "weights_bytes": 1,
            "left_out": [],
            "progress": told.append,
            **given,
        },
    )
    return found, told


def test_the_checkpoints_own_library_and_others_beside_the_bundle(made, short, tmp_path) -> None:
    checkpoint, bundle = made
    found = find_checkpoint(bundle.manifest.source, str(checkpoint))
    assert isinstance(found, Checkpoint)
    others, left_out = other_subjects(bundle, found, [sys.executable], 1, tmp_path)
    assert left_out == []
    _, alone = other_subjects(bundle, "no checkpoint is here", [sys.executable], 1, tmp_path)
    reasons = {each.label: each.reason for each in alone}
    assert (
        reasons["onnxruntime, a script"]
        == "it runs the checkpoint's onnx/model.onnx, and no checkpoint is here"
    )
    names = [each.label for each in others]
    assert {"onnxruntime, a script", "sentence-transformers, torch"} <= set(names)
    wrong = next(each for each in others if each.label == "onnxruntime, a script")
    wrong = replace(wrong, label="another pooling", job={**wrong.job, "pooling": "CLS"})
    gone = replace(wrong, label="gone", job={**wrong.job, "folder": str(tmp_path / "nowhere")})
    comparison, told = ask([*own_subjects(bundle, (), 1, "embedge"), *others, wrong, gone], tmp_path)
    assert comparison.reference == "sentence-transformers, torch"
    measured = {each.label: each for each in comparison.measured}
    for label in ("embedge fp32", "onnxruntime, a script", "sentence-transformers, torch"):
        each = measured[label]
        assert each.same_vectors
        assert each.cosine_min == pytest.approx(1, abs=1e-5)
        assert 0 < each.query_ms.low <= each.query_ms.median <= each.query_ms.high
        assert min(each.short_per_s.low, each.passages_per_s.low, each.start_s) > 0
        assert each.peak_rss_bytes is None or each.peak_rss_bytes > 1e7
    assert not measured["another pooling"].same_vectors
    assert measured["another pooling"].cosine_min < 0.9
    assert "gone" not in measured
    assert "No such file" in next(each.reason for each in comparison.left_out if each.label == "gone")
    assert told[0] == "loading embedge fp32"
    assert told[-1] == "round 1 of at most 1"
    assert list(tmp_path.iterdir()) == []


def test_fastembed_of_another_environment(made, short, tmp_path) -> None:
    if not FASTEMBED.exists():
        pytest.skip("fastembed has no environment here; `make interop` makes one")
    _, bundle = made
    for checkpoint, label in (
        (find_checkpoint(bundle.manifest.source, str(made[0])), "fastembed"),
        ("no checkpoint", "fastembed, on this bundle's graph"),
    ):
        others, _ = other_subjects(bundle, checkpoint, [str(FASTEMBED)], 1, tmp_path)
        assert others[0].label == label
        comparison, _ = ask([*own_subjects(bundle, (), 1, "embedge"), others[0]], tmp_path)
        assert comparison.reference == "embedge fp32"
        assert comparison.measured[1].cosine_min == pytest.approx(1, abs=1e-5)
        assert comparison.measured[1].version.startswith("fastembed ")


def test_a_library_that_fails_or_is_late_says_so_and_leaves_no_process(made, tmp_path, monkeypatch) -> None:
    _, bundle = made
    subject = own_subjects(bundle, (), 1, "embedge")[0]
    for job, words in (
        ({"library": "fastembed_of_tomorrow"}, "KeyError"),
        ({"bundle": "/nowhere"}, "BundleError: no bundle at '/nowhere'"),
    ):
        with pytest.raises(SubjectError, match=words):
            Process(replace(subject, job={**subject.job, **job}), "a text", tmp_path, 60)
    with pytest.raises(SubjectError, match="not done after 0 s"):
        Process(subject, "a text", tmp_path, 0)
    with pytest.raises(SubjectError, match="cannot be begun"):
        Process(replace(subject, python="/nowhere"), "a text", tmp_path, 60)
    with Process(subject, "a text", tmp_path, 60) as process:
        rows = process.ask("vectors", ["a text", "another"], 60)
        assert rows["shape"] == [2, 32]
        with pytest.raises(SubjectError, match="KeyError"):
            process.ask("sing", [], 60)
    monkeypatch.setattr(rounds, "available_memory_bytes", lambda: 10)
    monkeypatch.setattr(rounds, "_ALL", 0.0)  # no time for a second round
    comparison, _ = ask([subject, subject], tmp_path, seconds=10.0, weights_bytes=100)
    assert comparison.rounds == 1
    assert [each.label for each in comparison.measured] == ["embedge fp32"]
    assert "memory" in comparison.left_out[0].reason
    with pytest.raises(SubjectError, match="nothing could be measured: embedge fp32: no time was left"):
        ask([subject], tmp_path, seconds=0.5)


def test_a_checkpoint_is_found_by_its_weights(made, tmp_path, monkeypatch) -> None:
    checkpoint, bundle = made
    source = bundle.manifest.source
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert "no folder here, nor in the hub's cache" in find_checkpoint(source, None)
    with pytest.raises(ParamsError, match="--checkpoint nowhere"):
        find_checkpoint(source, "nowhere")
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "1234"
    shutil.copytree(checkpoint, snapshot)
    (tmp_path / "models--someone--tiny" / "refs").mkdir()
    (tmp_path / "models--someone--tiny" / "refs" / "main").write_text("1234")
    cached = find_checkpoint(replace(source, name="someone/tiny"), None)
    assert (cached.folder, cached.graph) == (snapshot, "onnx/model.onnx")
    assert find_checkpoint(source, "someone/tiny") == cached
    assert find_checkpoint(replace(source, name="someone/tiny", revision="1234"), None) == cached
    assert "no folder here" in find_checkpoint(source, None)
    assert "no folder here" in find_checkpoint(replace(source, name="../tiny"), None)
    (snapshot / "model.safetensors").write_bytes(b"other")
    assert "holds other weights" in find_checkpoint(replace(source, name="someone/tiny"), None)
    with pytest.raises(ParamsError, match="holds other weights"):
        find_checkpoint(source, str(snapshot))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ParamsError, match="model.safetensors is not there"):
        find_checkpoint(source, str(snapshot))


def test_a_model_that_others_cannot_pool_is_left_to_those_who_can(tmp_path, made, tiny) -> None:
    bundle = open_bundle(tiny("embed"))
    others, left_out = other_subjects(
        replace(bundle, manifest=replace(bundle.manifest, normalize=True, sparse=True)),
        Checkpoint(folder=made[0], graph=None, graph_data=()),
        [sys.executable, sys.executable],
        1,
        tmp_path,
    )
    assert all(each.job["library"] == "sentence_transformers" for each in others)
    assert "pools by mean" in next(each.reason for each in left_out if "script" in each.label)


def test_paths_that_are_relative(made, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(made[0].parent)
    (made[0].parent / "python").symlink_to(sys.executable)
    bundle = open_bundle("bundle")
    checkpoint = find_checkpoint(bundle.manifest.source, "checkpoint")
    others, _ = other_subjects(bundle, checkpoint, [sys.executable], 1, tmp_path)
    script = next(each for each in others if each.label == "onnxruntime, a script")
    for subject in (own_subjects(bundle, (), 1, "embedge")[0], script):
        with Process(subject, "a text", tmp_path, 120) as process:
            assert process.ask("vectors", ["a text"], 60)["shape"] == [1, 32]
    assert other_subjects(bundle, checkpoint, ["./python"], 1, tmp_path)  # it answers


def test_a_frozen_program_has_no_interpreter(tiny, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert main(["bench", str(tiny())]) == 1
    assert "this program is no Python interpreter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--python", "/nowhere"], "--python /nowhere does not answer as a Python interpreter"),
        (["--checkpoint", "nowhere"], "--checkpoint nowhere: the checkpoint 'nowhere' is no folder"),
        (["--seconds", "1"], "--seconds 1 is out of range; expected 5 to 600"),
        (["--seconds", "nan"], "--seconds nan is out of range"),
        (["--variant", "int9"], "--variant int9 is not in bundle"),
        (["--threads", "0"], "--threads 0 is out of range"),
        (["--count", "0"], "--count 0 is out of range; expected an int >= 1"),
        (["--count", "-4", "--splits"], "--count -4 is out of range; expected an int >= 1"),
        (["-o", "/nowhere/a.svg"], "there is no folder /nowhere; expected one that is there"),
        (["-o", "pictures.html"], "-o pictures.html is a folder; expected a file"),
        (["-o", "a.png"], "-o a.png is neither .html nor .svg; expected a name as in bench.svg"),
        (["-o", "mine.svg"], "mine.svg is there already, and bench did not write it"),
    ],
)
def test_wrong_inputs(tiny, arguments, words, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.svg").write_text("<svg/>")
    Path("pictures.html").mkdir()
    assert main(["bench", str(tiny()), *arguments]) == 1
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.svg", "pictures.html"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("echo noise >&2; exit 3", "(it ended with status 3: noise); expected one"),
        ("echo hello", "(what it wrote is no answer); expected one"),
        ("exec sleep 60", "(no answer within 0 s); expected one"),
    ],
)
def test_an_interpreter_that_is_none(tiny, lines, words, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(subjects, "_LOOK_S", 0.3)
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    # this program's own interpreter is asked, too, and takes longer
    monkeypatch.setattr(sys, "executable", str(program))
    assert main(["bench", str(tiny()), "--python", str(program)]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "importlib" not in error


def test_one_that_never_loads_leaves_others_the_time(made, short, tmp_path, monkeypatch) -> None:
    checkpoint, bundle = made
    found = find_checkpoint(bundle.manifest.source, str(checkpoint))
    others, _ = other_subjects(bundle, found, [sys.executable], 1, tmp_path)
    script = next(each for each in others if each.label == "onnxruntime, a script")
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    ours = own_subjects(bundle, (), 1, "embedge")[0]
    never = replace(script, label="never", python=str(program))
    monkeypatch.setattr(rounds, "_LEAST_S", 4.0)
    comparison, _ = ask([ours, never, script], tmp_path, seconds=16.0)
    assert {each.label: each.reason[:14] for each in comparison.left_out} == {"never": "not done after"}
    assert [each.label for each in comparison.measured] == [ours.label, script.label]


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    tiny, capsys, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # a superuser may write anywhere
    assert main(["bench", str(tiny()), "-o", str(tmp_path / "a.svg")]) == 1
    assert "its folder is not writable; expected another one with -o" in capsys.readouterr().err


def test_a_bundle_without_embeddings_is_told_of_splits(tiny, capsys) -> None:
    assert main(["bench", str(tiny("classify"))]) == 1
    assert "answers classify; --splits times it by itself" in capsys.readouterr().err


def test_the_command_alone(tiny, capsys, tmp_path, monkeypatch, short) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    command = ["bench", str(tiny()), "--threads", "1", "--seconds", "20", "--count", "30"]
    assert main(command) == 0
    shown = capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True)
        assert main(command) == 0  # what it wrote it replaces
    assert "s  round 1 of at most 1" in capsys.readouterr().err
    assert "No other library was measured" in shown.out
    assert "--checkpoint FOLDER says where it is" in shown.out
    (written,) = tmp_path.iterdir()
    assert written.name.endswith("-bench.html")
    assert f"wrote {written.name}" in shown.err
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["comparison"]["measured"][0]["ours"]
    assert found["setting"]["threads"] == 1
    assert found["picture"] is None


NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")


@NEEDS_PROC
def test_an_interrupt_leaves_nothing_behind(made, interruptible, tmp_path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "embedge", "bench", str(made[1].folder), "--checkpoint", str(made[0])]
    running = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(temporary)}
    )
    while not (children := _asked(running.pid)) and running.poll() is None:
        time.sleep(0.02)
    asked = list(temporary.iterdir())
    running.send_signal(signal.SIGINT)
    assert b"interrupted" in running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert asked
    assert list(temporary.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    until = time.monotonic() + 20
    while any(map(_runs, children)):
        assert time.monotonic() < until
        time.sleep(0.02)


def _runs(pid: str) -> bool:
    """Whether a process does anything yet; one that has ended stays listed until init looks after it."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _asked(pid: int) -> list[str]:
    """Processes of subjects that a process has begun."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"asked.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def test_cosines_of_rows_that_do_not_belong_together() -> None:
    rows = np.eye(3, dtype=np.float32)
    assert rounds._cosines(rows, rows[:, :2]) is None
    assert rounds._cosines(rows, 2 * rows).tolist() == [1, 1, 1]


@NEEDS_PROC
def test_who_does_not_end_is_ended(made, tmp_path) -> None:
    with Process(own_subjects(made[1], (), 1, "embedge")[0], "a text", tmp_path, 60):
        (pid,) = _asked(os.getpid())
        os.kill(int(pid), signal.SIGSTOP)
    assert not _runs(pid)


@NEEDS_PROC
@pytest.mark.parametrize(("when", "before"), [("comparing", 0), ("round 3", 2)])
def test_who_is_lost_keeps_the_rounds_before(made, short, tmp_path, monkeypatch, when, before) -> None:
    monkeypatch.setattr(rounds, "MOST_ROUNDS", 3)
    subject = own_subjects(made[1], ["fp32"], 1, "embedge")[0]

    def end_one(words: str) -> None:
        if words.startswith(when):
            os.kill(int(_asked(os.getpid())[-1]), signal.SIGKILL)

    comparison, _ = ask([subject, replace(subject, label="lost")], tmp_path, progress=end_one)
    assert comparison.rounds == 3
    assert [each.label for each in comparison.measured] == ["embedge fp32", *(["lost"] if before else [])]
    (lost,) = comparison.left_out
    assert (lost.label, lost.rounds) == ("lost", before)
    assert "status -9" in lost.reason
