"""`embedge encode`, `classify`, `score` over files, and `search` over what they wrote."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from embedge import EdgeModel
from embedge.cli import corpus
from embedge.cli.main import main


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("good food\nbad water\ngood food\nold house\n")
    return path


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_files_to_vectors_to_answers(tiny, file, tmp_path, capsys) -> None:
    bundle = tiny()
    status, out, err = run(capsys, "encode", bundle, file, "-o", tmp_path / "v.npy")
    assert (status, out) == (0, "")
    assert "4 rows" in err
    assert "1 repeated" in err
    assert f"wrote 4 rows to {tmp_path / 'v.npy'}" in err
    assert len(np.load(tmp_path / "v.npy")) == 4
    status, out, _ = run(capsys, "search", tmp_path / "v.npy", "old house", "--bundle", bundle, "--top", 1)
    assert status == 0
    assert "old house" in out.splitlines()[-1]
    _, out, _ = run(capsys, "search", tmp_path / "v.npy", "old house", "--bundle", bundle, "--json")
    assert json.loads(out)["rows"][0]["text"] == "old house"


def test_few_bytes_are_searched_and_more_decide(tiny, file, tmp_path, capsys) -> None:
    bundle = tiny()
    run(capsys, "encode", bundle, file, "-o", tmp_path / "v.npy")
    status, _, err = run(
        capsys, "quantize", tmp_path / "v.npy", "-o", tmp_path / "b.npy", "--precision", "binary"
    )
    assert (status, err) == (0, f"wrote 4 rows in binary to {tmp_path / 'b.npy'}\n")
    asked = ("old house", "--bundle", bundle, "--json")
    _, out, _ = run(capsys, "search", tmp_path / "b.npy", *asked, "--rescore", tmp_path / "v.npy")
    _, exact, _ = run(capsys, "search", tmp_path / "v.npy", *asked)
    assert json.loads(out)["rows"] == json.loads(exact)["rows"]


def test_rows_as_json(tiny, file, capsys) -> None:
    status, out, _ = run(capsys, "encode", tiny(), file, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(row["index"], row["text"]) for row in rows][3] == (3, "old house")
    assert rows[0]["embedding"] == rows[2]["embedding"]
    file.write_bytes(b"good\n\xff\n")
    _, out, err = run(capsys, "encode", tiny(), file, "--json", "--on-error", "skip", "--no-texts")
    assert "text" not in json.loads(out)
    assert "notes.txt:2: not utf-8" in err


def test_the_first_rows_do_not_wait_for_the_last(tiny) -> None:
    """The reader of the first line ends the command, whose input never ends."""
    command = [sys.executable, "-m", "embedge", "encode", str(tiny()), "-", "--json"]
    endless = [sys.executable, "-c", "import sys\nn = 0\nwhile True: n += 1; print('food', n)"]
    with (
        subprocess.Popen(endless, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source,
        subprocess.Popen(
            command, stdin=source.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        source.stdout.close()
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(30) == 1
        assert b"Traceback" not in process.stderr.read()
        source.kill()
    assert first["text"] == "food 1"


def test_classify_and_score_files(tiny, file, tmp_path, capsys) -> None:
    assert run(capsys, "classify", tiny("classify"), file, "-o", tmp_path / "c.jsonl")[0] == 0
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 4
    pairs = tmp_path / "p.csv"
    pairs.write_text("q,d\ngood,food\n")
    command = ["score", tiny("cross_encoder"), pairs, "--column", "q", "--pair-column", "d", "--json"]
    row = json.loads(run(capsys, *command)[1])
    assert (row["text"], row["pair"]) == ("good", "food")
    assert isinstance(row["score"], float)
    _, out, _ = run(capsys, "classify", tiny("classify"), file, "--text", "--json")
    assert json.loads(out)["text"] == str(file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "B", "FILE"], "is a file, and nothing says what becomes of its rows; expected -o"),
        (
            ["encode", "B", ".", "--task", "embed"],
            ". is a folder, and nothing says what becomes of its rows; expected -o",
        ),
        (["encode", "B", "FILE", "a text", "--json"], "is a file and 'a text' is none"),
        (["encode", "B", "FILE", "--json", "--task", "token_embed"], "--task token_embed"),
        (["encode", "B", "FILE", "--json", "--truncate", "9"], "expected --long-text"),
        (["encode", "B", "FILE", "-o", "out.txt"], "ends in '.txt'"),
        (["encode", "B", "FILE", "--json", "--on-error", "perhaps"], "expected stop, skip, or a file"),
        (["encode", "B", "FILE", "--json", "--chunk", "0"], "--chunk 0"),
        (["classify", "B", "FILE"], "is a file, and nothing says what becomes of its rows"),
        (["classify", "B", "good", "-o", "x.npy"], "-o is for the rows of files"),
        (["classify", "B", "FILE", "--json", "--logits"], "expected neither for the rows of files"),
        (["score", "B", "good"], "no document is given"),
        (["score", "B", "good", "bad", "-o", "x.npy"], "-o is for the pairs of files"),
        (
            ["search", "FILE", "question"],
            "expected a name that ends in .jsonl, .npy, .parquet. Pass --in FILE",
        ),
    ],
)
def test_refusals(tiny, file, capsys, arguments, message) -> None:
    bundle = tiny("classify") if arguments[0] == "classify" else tiny()
    words = {"B": bundle, "FILE": file}
    status, out, err = run(capsys, *(words.get(word, word) for word in arguments))
    assert (status, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_the_empty_text_is_a_text_and_no_folder(tiny, capsys) -> None:
    status, out, err = run(capsys, "encode", tiny(), "")
    assert (status, err) == (0, "")
    assert "components" in out


def test_a_broken_off_output_says_how_to_go_on(tiny, file, tmp_path, capsys, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "v.npy.part"))

    monkeypatch.setattr("os.fsync", full)
    status, _, err = run(capsys, "encode", tiny(), file, "-o", tmp_path / "v.npy")
    assert status == 1
    assert "No space left on device" in err
    monkeypatch.undo()
    assert run(capsys, "encode", tiny(), file, "-o", tmp_path / "v.npy", "--resume")[0] == 0


def test_rerank_files(tiny, tmp_path, capsys) -> None:
    bundle = tiny("cross_encoder")
    rows = tmp_path / "rows.csv"
    texts = ["good food", "bad water", "old house", "good food", "new river"]
    rows.write_text("id,text\n" + "".join(f"r{n},{text}\n" for n, text in enumerate(texts)))
    with EdgeModel(bundle) as model:
        expected = model.rerank("good", texts, truncate_prompt_tokens=-1)
    files = (bundle, "good", rows, "--id-column", "id")
    _, out, _ = run(capsys, "rerank", *files, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["index"] for row in found] == [each.index for each in expected]
    assert [row["id"] for row in found] == [f"r{each.index}" for each in expected]
    assert [row["score"] for row in found] == pytest.approx([each.score for each in expected], abs=1e-6)
    status, _, err = run(capsys, "rerank", *files, "--top", 2, "-o", tmp_path / "best.jsonl")
    assert (status, err) == (0, f"wrote 2 rows to {tmp_path / 'best.jsonl'}\n")
    best = (tmp_path / "best.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in best] == found[:2]
    _, out, _ = run(capsys, "rerank", *files, "--top", 1)
    assert found[0]["document"] in out
    for words, message in (
        (("-o", tmp_path / "best.jsonl"), "is there already"),
        (("-o", tmp_path / "best.npy"), "expected a name as in ranked.jsonl"),
        (("--top", 0), "--top 0 shows nothing"),
        (("--logits",), "are for texts"),
    ):
        status, _, err = run(capsys, "rerank", *files, *words)
        assert status == 1
        assert message in err


def test_time_left_where_the_number_of_rows_is_known(tiny, tmp_path, capsys, monkeypatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    monkeypatch.setattr(corpus, "_TRIVIAL_S", 0.0)
    monkeypatch.setattr(corpus, "_LINE_EVERY_S", 0.0)
    texts = [f"good food {n}" for n in range(8)]
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("\n".join(texts))
    bundle = tiny()
    command = ("encode", bundle, tmp_path / "a.parquet", "-o", tmp_path / "a.npy", "--chunk", 2)
    _, _, err = run(capsys, *command)
    lines = [line for line in err.splitlines() if line.endswith(" left")]
    assert ["50% of 8" in line or "75% of 8" in line or "100% of 8" in line for line in lines] == [True] * 3
    assert lines[-1].endswith("100% of 8, 0:00 left")
    _, _, err = run(capsys, "encode", bundle, tmp_path / "a.txt", "-o", tmp_path / "b.npy", "--chunk", 2)
    assert "rows/s\n" in err
    assert " left" not in err


def test_rejected_rows_and_a_file_for_each_text_are_told_of(tiny, tmp_path, capsys, monkeypatch) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, content in enumerate((b"good", b"bad", b"\xff")):
        (folder / f"{number}.txt").write_bytes(content)
    monkeypatch.setattr(corpus, "_TRIVIAL_S", 0.0)
    monkeypatch.setattr(corpus, "_LINE_EVERY_S", 0.0)
    command = ("encode", tiny(), folder, "--text-per-file", "--on-error", "skip", "-o", tmp_path / "a.npy")
    status, _, err = run(capsys, *command, "--chunk", 1)
    assert status == 0
    assert " of 3, " in err
    assert "3 rows, " in err
    assert "1 rejected" in err


@pytest.mark.parametrize("text", ["a" * 5000, "a/" * 3000])
def test_a_text_that_is_too_long_for_a_name_is_a_text(tiny, capsys, text) -> None:
    status, out, err = run(capsys, "encode", tiny(), text)
    assert (status, err.replace("embedge: 1 of 1 texts were longer than the limit and were cut\n", "")) == (
        0,
        "",
    )
    assert "components" in out


def test_an_output_is_for_the_rows_of_files_alone(tiny, tmp_path, capsys) -> None:
    status, _, err = run(capsys, "rerank", tiny("cross_encoder"), "good", "bad", "-o", tmp_path / "a.jsonl")
    assert status == 1
    assert "-o is for the rows of files; expected files, or --json for texts" in err
