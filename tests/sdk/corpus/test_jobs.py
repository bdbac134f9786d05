"""Files to rows on disk: what is written, what survives, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest

from embedge import CorpusError, EdgeModel
from embedge._corpus import journal, sinks
from embedge.corpus import Vectors, encode_files
from embedge.testing import assert_embeddings_close

WORDS = ["the", "food", "city", "river", "water", "light", "good", "bad", "old", "new", "house", "time"]


@pytest.fixture
def texts():
    rng = np.random.default_rng(3)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(60)]


@pytest.fixture
def file(tmp_path, texts):
    path = tmp_path / "in" / "texts.txt"
    path.parent.mkdir()
    path.write_text("\n".join(texts) + "\n")
    return path


def contents(folder, name):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name.startswith(name)}


@pytest.mark.parametrize("end", ["npy", "jsonl", "parquet"])
def test_rows_are_the_models_own(load, file, texts, tmp_path, end) -> None:
    if end == "parquet":
        pytest.importorskip("pyarrow")
    model = load()
    summary = encode_files(model, file, tmp_path / f"out.{end}", chunk=16)
    vectors = Vectors.open(tmp_path / f"out.{end}")
    assert_embeddings_close(vectors.dequantize(), model.embed(texts).numpy())
    assert [vectors.entry(row).text for row in range(len(vectors))] == texts
    assert vectors.ids == list(range(60))
    assert (summary.counts.read, summary.counts.written, summary.counts.rejected) == (60, 60, 0)
    assert summary.counts.computed <= 60
    assert vectors.facts.fingerprint == model.info.fingerprint
    left = [path.name for path in tmp_path.iterdir() if path.name not in ("in", "lost")]
    assert (
        sorted(left)
        == {
            "npy": ["out.npy", "out.npy.json", "out.npy.rows.jsonl"],
            "jsonl": ["out.jsonl", "out.jsonl.json"],
            "parquet": ["out.parquet"],
        }[end]
    )


def test_an_npy_file_is_one_to_everybody(load, file, texts, tmp_path) -> None:
    encode_files(load(), file, tmp_path / "out.npy", precision="float16")
    rows = np.load(tmp_path / "out.npy")
    assert (rows.shape, rows.dtype) == ((60, load().info.embedding_size), np.float16)


class CutError(Exception):
    """What ends a job in the middle."""


@pytest.mark.parametrize("end", ["npy", "jsonl", "parquet"])
def test_cut_off_anywhere_and_gone_on_with_it_is_the_same(load, file, tmp_path, monkeypatch, end) -> None:
    """The n-th call that puts something on disk fails, for all n; then the job goes on to the same bytes."""
    if end == "parquet":
        pytest.importorskip("pyarrow")
    model = load()
    words = {"chunk": 16, "precision": "int8", "on_error": tmp_path / "bad.jsonl"}
    whole, lost = tmp_path / "whole", tmp_path / "lost"
    whole.mkdir()
    encode_files(model, file, whole / f"out.{end}", **words)
    real_sync, real_replace = os.fsync, os.replace
    calls = {"left": 0}

    def failing(real):
        def call(*args):
            calls["left"] -= 1
            if calls["left"] == 0:
                raise CutError
            return real(*args)

        return call

    monkeypatch.setattr(os, "fsync", failing(real_sync))
    monkeypatch.setattr("os.replace", failing(real_replace))
    cuts = 0
    for count in range(1, 100):
        target = lost / str(count)
        target.mkdir(parents=True)
        calls["left"] = count
        try:
            encode_files(model, file, target / f"out.{end}", **words)
        except CutError:
            cuts += 1
        else:
            break
        calls["left"] = -1
        encode_files(model, file, target / f"out.{end}", resume=True, **words)
        assert contents(target, "out") == contents(whole, "out"), count
        (target / f"out.{end}").unlink()
    assert cuts > 8


def test_a_killed_process_is_gone_on_with(tiny, file, tmp_path) -> None:
    bundle = tiny()
    file.write_text("".join(f"the food {n} city {n % 7} river\n" for n in range(3_000)))
    command = [
        sys.executable,
        "-m",
        "embedge",
        "encode",
        str(bundle),
        str(file),
        "--chunk",
        "64",
        "--device",
        "cpu",
    ]
    subprocess.run([*command, "-o", tmp_path / "whole.npy"], check=True, capture_output=True)
    started = subprocess.Popen([*command, "-o", tmp_path / "cut.npy"], stderr=subprocess.PIPE)
    state = journal.job_file(tmp_path / "cut.npy")
    deadline = time.monotonic() + 60
    while (journal.read_state(tmp_path / "cut.npy") or journal.State(settings={})).counts.read < 500:
        assert time.monotonic() < deadline
        assert started.poll() is None
    started.send_signal(signal.SIGKILL)
    started.communicate()
    assert state.exists()
    assert not (tmp_path / "cut.npy").exists()
    with pytest.raises(CorpusError, match="is not done; expected a whole output"):
        Vectors.open(tmp_path / "cut.npy")
    subprocess.run([*command, "-o", tmp_path / "cut.npy", "--resume"], check=True, capture_output=True)
    for name in ("npy", "npy.rows.jsonl", "npy.json"):
        assert (tmp_path / f"cut.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "int8"}, "begun with precision float32, and this call has int8"),
        ({"normalize": False}, "begun with normalize None, and this call has False"),
        ({"chunk": 5}, "begun with chunk 16, and this call has 5"),
    ],
)
def test_going_on_otherwise_is_refused(load, file, tmp_path, monkeypatch, change, message) -> None:
    model = load()
    begin_and_fail(model, file, tmp_path / "out.npy", monkeypatch)
    with pytest.raises(CorpusError, match=message):
        encode_files(model, file, tmp_path / "out.npy", **{"chunk": 16, "resume": True, **change})
    with pytest.raises(CorpusError, match="is the start of an unfinished job"):
        encode_files(model, file, tmp_path / "out.npy", chunk=16)
    file.write_text("other")
    with pytest.raises(CorpusError, match="begun with input 0"):
        encode_files(model, file, tmp_path / "out.npy", chunk=16, resume=True)
    encode_files(model, file, tmp_path / "out.npy", overwrite=True)
    assert len(Vectors.open(tmp_path / "out.npy")) == 1


def begin_and_fail(model, file, output, monkeypatch):
    """Leave a job with one chunk done."""
    seen = []

    def stop(counts):
        seen.append(counts)
        raise CutError

    with pytest.raises(CutError):
        encode_files(model, file, output, chunk=16, progress=stop)
    assert seen[0].read >= 16


def test_what_lies_there_is_not_replaced_unasked(load, file, tmp_path) -> None:
    model, output = load(), tmp_path / "out.npy"
    encode_files(model, file, output)
    with pytest.raises(CorpusError, match="is there already; expected a new name"):
        encode_files(model, file, output)
    with pytest.raises(CorpusError, match="is whole; expected an unfinished job"):
        encode_files(model, file, output, resume=True)
    encode_files(model, file, output, overwrite=True, dimensions=None)


def test_a_part_that_was_cut_or_lost_is_noticed(load, file, tmp_path, monkeypatch) -> None:
    model, output = load(), tmp_path / "out.npy"
    begin_and_fail(model, file, output, monkeypatch)
    part = tmp_path / "out.npy.part"
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(CorpusError, match="is shorter than the job wrote it"):
        encode_files(model, file, output, chunk=16, resume=True)
    part.unlink()
    with pytest.raises(CorpusError, match="is missing; expected what the job wrote"):
        encode_files(model, file, output, chunk=16, resume=True)
    table = tmp_path / "out.parquet"
    begin_and_fail(model, file, table, monkeypatch)
    (chunk, *_) = sorted((tmp_path / "out.parquet.parts").iterdir())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(CorpusError, match="is missing or not whole; expected what the job wrote"):
        encode_files(model, file, table, chunk=16, resume=True)
    journal.job_file(output).write_text("{")
    with pytest.raises(CorpusError, match="cannot be read"):
        encode_files(model, file, output, chunk=16, resume=True)


def test_two_processes_do_not_write_one_output(load, file, tmp_path) -> None:
    with journal.locked(tmp_path / "out.npy"):
        with pytest.raises(CorpusError, match="another process writes"):
            encode_files(load(), file, tmp_path / "out.npy")
    assert not list(tmp_path.glob(".out*"))


def test_bad_rows_stop_are_skipped_or_told_of(load, tmp_path) -> None:
    model = load()
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "good food"}\n{\n{"text": "old house"}\n{"text": null}\n')
    with pytest.raises(CorpusError, match=r"a\.jsonl:2: not JSON.*Mend the row"):
        encode_files(model, source, tmp_path / "stop.npy")
    summary = encode_files(model, source, tmp_path / "skip.npy", on_error="skip")
    assert (summary.counts.written, summary.counts.rejected) == (2, 2)
    encode_files(model, source, tmp_path / "told.npy", on_error=tmp_path / "bad.jsonl")
    told = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(row["line"], row["file"]) for row in told] == [(2, str(source)), (4, str(source))]
    only_bad = tmp_path / "b.jsonl"
    only_bad.write_text("{\n{\n")
    assert encode_files(model, only_bad, tmp_path / "none.jsonl", on_error="skip").counts.rejected == 2
    assert (tmp_path / "none.jsonl").read_bytes() == b""


def test_long_texts_are_cut_averaged_or_rejected(load, tmp_path) -> None:
    model = load()
    long_text = "good food " * model.info.max_seq_len
    (tmp_path / "a.txt").write_text(f"old house\n{long_text}\nnew river\n")
    cut = encode_files(model, tmp_path / "a.txt", tmp_path / "cut.npy")
    assert cut.counts.cut == 1
    encode_files(model, tmp_path / "a.txt", tmp_path / "mean.npy", long_text="mean")
    expected = model.embed(["old house", long_text, "new river"], long_text="mean").numpy()
    assert_embeddings_close(Vectors.open(tmp_path / "mean.npy").dequantize(), expected)
    error = encode_files(
        model, tmp_path / "a.txt", tmp_path / "error.npy", long_text="error", on_error=tmp_path / "bad.jsonl"
    )
    assert (error.counts.written, error.counts.rejected) == (2, 1)
    bad = json.loads((tmp_path / "bad.jsonl").read_text())
    assert bad["line"] == 2
    # not by its position in what was computed together
    assert any(str(said).startswith("the text has") for said in bad.values()), bad
    with pytest.raises(CorpusError, match=r"a\.txt:2.* the text has"):
        encode_files(model, tmp_path / "a.txt", tmp_path / "stop.npy", long_text="error")


def test_repeated_texts_are_computed_once(load, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("good\nbad\ngood\n" * 20)
    summary = encode_files(load(), tmp_path / "a.txt", tmp_path / "out.npy")
    assert (summary.counts.written, summary.counts.computed) == (60, 2)
    rows = Vectors.open(tmp_path / "out.npy").dequantize()
    np.testing.assert_array_equal(rows[0::3], rows[2::3])


def test_labels_and_scores(load, tmp_path) -> None:
    classifier = load("classify")
    (tmp_path / "a.txt").write_text("good food\nbad water\n")
    encode_files(classifier, tmp_path / "a.txt", tmp_path / "labels.npy", task="classify")
    vectors = Vectors.open(tmp_path / "labels.npy")
    np.testing.assert_allclose(
        vectors.dequantize(), classifier.classify(["good food", "bad water"]).numpy(), atol=1e-6
    )
    assert vectors.facts.labels == tuple(classifier.classify("x")[0].outputs.labels)
    with pytest.raises(CorpusError, match="expected embeddings to search in"):
        vectors.search(classifier, "x")
    encode_files(classifier, tmp_path / "a.txt", tmp_path / "own.npy", task="classify", long_text="error")
    model = load()
    (tmp_path / "p.csv").write_text("q,d\ngood,food\nbad,water\n")
    encode_files(model, tmp_path / "p.csv", tmp_path / "s.jsonl", task="score", column="q", pair_column="d")
    scores = Vectors.open(tmp_path / "s.jsonl")
    np.testing.assert_allclose(
        scores.dequantize(), model.score(["good", "bad"], ["food", "water"]).numpy()[:, None], atol=1e-6
    )
    assert scores.entry(1).pair == "water"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"precision": "int3"}, "precision='int3' is not known"),
        ({"precision": "int8", "task": "classify"}, "is for embeddings"),
        ({"pair_column": "b"}, "expected pairs for score, and only there"),
        ({"task": "score"}, "expected pairs for score, and only there"),
        ({"chunk": 0}, "chunk=0 is out of range"),
    ],
)
def test_arguments_that_do_not_fit(load, file, tmp_path, words, message) -> None:
    with pytest.raises(CorpusError, match=message):
        encode_files(load(), [file], tmp_path / "out.npy", **words)


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.bin", r"ends in '\.bin'"), ("nowhere/out.npy", "lies in no folder"), ("in", "ends in ''")],
)
def test_outputs_that_cannot_be(load, file, tmp_path, name, message) -> None:
    with pytest.raises(CorpusError, match=message):
        encode_files(load(), file, tmp_path / name)


def test_stdin_is_not_gone_on_with(load, tmp_path) -> None:
    with pytest.raises(CorpusError, match="stdin cannot be read a second time"):
        encode_files(load(), "-", tmp_path / "out.npy", resume=True)


def test_another_bundle_is_not_gone_on_with(load, file, tmp_path, monkeypatch) -> None:
    begin_and_fail(load(), file, tmp_path / "out.npy", monkeypatch)
    other = load(bundle={"seed": 1})
    assert isinstance(other, EdgeModel)
    with pytest.raises(CorpusError, match="begun with bundle"):
        encode_files(other, file, tmp_path / "out.npy", chunk=16, resume=True)


def test_a_long_text_is_written_in_pieces(load, tmp_path, monkeypatch) -> None:
    model = load()
    long = 'a "word" \\ and “another”\t🙂\x00é"text":"'
    (tmp_path / "a.jsonl").write_bytes(
        b"".join(
            msgspec.json.encode({"id": f'"text":"{n}', "text": text}) + b"\n"
            for n, text in enumerate((long, "food"))
        )
    )
    for end in ("npy", "jsonl"):
        encode_files(model, tmp_path / "a.jsonl", tmp_path / f"whole.{end}", id_column="id")
        with monkeypatch.context() as patch:
            patch.setattr(sinks, "_PIECE", 5)
            encode_files(model, tmp_path / "a.jsonl", tmp_path / f"pieces.{end}", id_column="id")
        rows = ".npy.rows.jsonl" if end == "npy" else ".jsonl"
        assert (tmp_path / f"pieces{rows}").read_bytes() == (tmp_path / f"whole{rows}").read_bytes()
        assert Vectors.open(tmp_path / f"pieces.{end}").entry(0).text == long


@pytest.mark.skipif(sys.platform != "linux", reason="needs a system that tells of a process's own peak")
def test_a_very_long_line_is_held_once(tiny, tmp_path) -> None:
    """Its bytes while they are decoded to two each, and little beside."""
    bundle, size = tiny(), 16_000_000
    program = (
        "import sys; from embedge.cli.main import main; main(sys.argv[1:])\n"
        "print(open('/proc/self/status').read())"
    )

    def peak_bytes(text):
        (tmp_path / "a.txt").write_text(text)
        command = [
            sys.executable,
            "-c",
            program,
            "encode",
            str(bundle),
            str(tmp_path / "a.txt"),
            "--overwrite",
        ]
        done = subprocess.run(
            [*command, "-o", str(tmp_path / "a.npy")], capture_output=True, text=True, check=True
        )
        return next(
            1024 * int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("VmHWM:")
        )

    words = "good food and “bad” water by an old house "
    alone = peak_bytes(words)
    assert peak_bytes(words * (size // len(words))) - alone < 4 * size
    words = "good food and bad water by an old house "
    # four bytes a character, and one of what was before the first wide one
    assert peak_bytes(words * (size // len(words)) + "😀") - alone < 5.5 * size
