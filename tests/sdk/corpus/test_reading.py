"""Names become files, files become rows; what cannot be used says where and why."""

from __future__ import annotations

import codecs
import io
import os
import sys

import pytest

from embedge import CorpusError, MissingExtraError
from embedge._corpus import decoding
from embedge._corpus.chunks import refuse_repeated, take_chunks
from embedge._corpus.inputs import InputFile, find_inputs
from embedge._corpus.records import Reading, known_total, read_rows


def rows_of(path, reading=None, **words):
    return list(read_rows(find_inputs([str(path)]), reading or Reading(**words)))


def texts_of(path, **words):
    return [row.text for row in rows_of(path, **words)]


def written(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_folders_globs_and_names_become_files(tmp_path) -> None:
    for name in ("b.txt", "a.jsonl", "sub/c.csv", "sub/.hidden.txt", ".git/x.txt", "picture.png"):
        written(tmp_path / name, "")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    names = [file.name for file in find_inputs([str(tmp_path)])]
    assert names == [str(tmp_path / name) for name in ("a.jsonl", "b.txt", "sub/c.csv")]
    assert [file.format for file in find_inputs([str(tmp_path)])] == ["jsonl", "text", "csv"]
    assert [file.name for file in find_inputs([f"{tmp_path}/*.txt"])] == [str(tmp_path / "b.txt")]
    assert find_inputs([str(tmp_path / "picture.png")])[0].format == "text"
    assert find_inputs(["-"], "jsonl") == (InputFile(name="-", format="jsonl"),)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nope.txt"], "nope.txt does not exist; expected a file"),
        (["*.nope"], "matches no file"),
        ([], "no input is named"),
        (["-", "-"], "- is named twice"),
    ],
)
def test_inputs_that_are_none(names, message) -> None:
    with pytest.raises(
        CorpusError, match="^" + message.replace(".", r"\.") if names != ["*.nope"] else message
    ):
        find_inputs(names)


def test_an_empty_folder_and_a_file_named_twice(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="holds no file that can be read"):
        find_inputs([str(tmp_path / "empty")])
    file = written(tmp_path / "a.txt", "x")
    with pytest.raises(CorpusError, match="named twice"):
        find_inputs([str(tmp_path), str(file)])


def test_lines_keep_their_numbers(tmp_path) -> None:
    file = written(tmp_path / "a.txt", "one\r\n\ntwo\u2028still two\nlast")
    assert [(row.line, row.text) for row in rows_of(file)] == [
        (1, "one"),
        (2, ""),
        (3, "two\u2028still two"),
        (4, "last"),
    ]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (codecs.BOM_UTF8 + "größe\nzwei".encode(), "utf-8"),
        ("größe\nzwei".encode("utf-16"), "utf-8"),
        (codecs.BOM_UTF16_BE + "größe\nzwei".encode("utf-16-be"), "utf-8"),
        ("größe\nzwei".encode("cp1252"), "cp1252"),
        ("größe\nzwei".encode("utf-32"), "utf-32"),
    ],
)
def test_marks_and_encodings(tmp_path, data, encoding) -> None:
    assert texts_of(written(tmp_path / "a.txt", data), encoding=encoding) == ["größe", "zwei"]


def test_bytes_of_no_encoding_are_a_bad_row(tmp_path) -> None:
    file = written(tmp_path / "a.txt", b"good\nb\xffd\nlast\x00one\n")
    first, second, third = rows_of(file)
    assert (first.text, third.text) == ("good", "last\x00one")
    assert (second.line, second.problem) == (2, "not utf-8: invalid start byte at byte 1 of the line")
    assert texts_of(file, encoding_errors="replace")[1] == "b\ufffdd"
    with pytest.raises(CorpusError, match="encoding 'klingon' is not known"):
        rows_of(file, encoding="klingon")
    damaged = written(tmp_path / "b.txt", codecs.BOM_UTF16_LE + "a\n".encode("utf-16-le") + b"\x00")
    with pytest.raises(CorpusError, match="after line 1 the text is not utf-16"):
        rows_of(damaged)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_beyond_all_measure_is_passed_over(tmp_path, monkeypatch, encoding) -> None:
    monkeypatch.setattr(decoding, "MAX_ROW_BYTES", 10)
    monkeypatch.setattr(decoding, "_PIECE", 16)
    file = written(tmp_path / "a.txt", ("short\n" + "x" * 99 + "\n1234567890\n").encode(encoding))
    first, second, third = rows_of(file, encoding=encoding)
    assert (first.text, third.text, third.line) == ("short", "1234567890", 3)
    assert second.problem.startswith("longer than")


@pytest.mark.parametrize("errors", ["strict", "replace", "ignore"])
def test_a_long_line_with_a_late_emoji_is_read_as_python_reads_it(tmp_path, monkeypatch, errors) -> None:
    monkeypatch.setattr(decoding, "_PIECE", 16)
    words = "\N{BYTE ORDER MARK}good food — bad water by an old house ".encode()
    for end in (
        "😀".encode(),
        "🎉 and é 😀".encode(),
        b"\xe2\x80\xf0\x9f\x98\x80",
        b"\xe2\xf0\x9f b",
        b"\xff \xfe",
    ):
        (row,) = rows_of(written(tmp_path / "a.txt", words + end), encoding_errors=errors)
        assert (row.text, row.problem) == as_python_reads(words + end, errors)


def as_python_reads(data: bytes, errors: str) -> tuple[str, str]:
    try:
        return data.decode("utf-8-sig", errors), ""
    except UnicodeDecodeError as error:
        return "", f"not utf-8-sig: {error.reason} at byte {error.start} of the line"


def test_json_lines(tmp_path) -> None:
    lines = [
        '{"text": "a", "n": 1}',
        '"b"',
        "",
        "{",
        "[1]",
        '{"text": null}',
        '{"n": 2}',
        '{"text": 3}',
        '{"text": "\\ud800"}',
    ]
    rows = rows_of(written(tmp_path / "a.jsonl", "\n".join(lines)))
    assert [row.text for row in rows if not row.problem] == ["a", "b"]
    problems = [row.problem.partition(":")[0] for row in rows[2:]]
    assert problems[0] == "empty; expected one JSON value a line"
    assert problems[1] == "not JSON"
    assert problems[2] == "a JSON list; expected an object or a string"
    assert problems[3:6] == [
        "'text' is empty; expected text",
        "'text' is missing; expected text",
        "'text' is a int; expected text",
    ]
    assert "half of a surrogate pair" in rows[8].problem


def test_columns_pairs_and_identifiers(tmp_path) -> None:
    file = written(
        tmp_path / "a.csv", 'id,question,answer\n7,"a, b",c\nx,"two\nlines",d\n9,short\n\n10,e,f\n'
    )
    rows = rows_of(file, column="question", pair_column="answer", id_column="id")
    assert [(row.identifier, row.text, row.pair) for row in rows if not row.problem] == [
        ("7", "a, b", "c"),
        ("x", "two\nlines", "d"),
        ("10", "e", "f"),
    ]
    (bad,) = [row for row in rows if row.problem]
    assert (bad.line, bad.problem) == (5, "2 fields; expected 3, as the first line names")
    tabs = written(tmp_path / "a.tsv", "text\tother\nx\ty\n")
    assert texts_of(tabs) == ["x"]
    numbered = written(
        tmp_path / "b.jsonl", '{"text": "a", "id": 1}\n{"text": "b", "id": true}\n{"text": "c"}\n'
    )
    found = rows_of(numbered, id_column="id")
    assert found[0].identifier == 1
    assert [row.problem for row in found[1:]] == [
        "'id' is True; expected text or a whole number",
        "'id' is None; expected text or a whole number",
    ]


@pytest.mark.parametrize(
    ("data", "words", "message"),
    [
        ("a,b\n1,2\n", {}, "does not say which column holds the text; expected one of 'a', 'b'"),
        ("a,b\n1,2\n", {"column": "c"}, "column 'c' is missing; expected one of 'a', 'b'"),
        ("a,a\n1,2\n", {"column": "a"}, "column 'a' is there more than once"),
        ("", {}, "is empty; expected a first line"),
        ('a\n"open', {}, "cannot be read as csv"),
        (b"a\n\xff\n", {}, "is not utf-8"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, data, words, message) -> None:
    with pytest.raises(CorpusError, match=message):
        rows_of(written(tmp_path / "a.csv", data), **words)


def test_lines_of_text_have_no_columns(tmp_path) -> None:
    with pytest.raises(CorpusError, match="lines of text have no columns"):
        rows_of(written(tmp_path / "a.txt", "x"), column="text")


def test_a_file_is_one_text(tmp_path, monkeypatch) -> None:
    file = written(tmp_path / "a.txt", "one\ntwo")
    assert [(row.text, row.identifier) for row in rows_of(file, text_per_file=True)] == [
        ("one\ntwo", str(file))
    ]
    bad = written(tmp_path / "b.txt", b"\xff")
    assert rows_of(bad, text_per_file=True)[0].problem == "not utf-8: invalid start byte at byte 0"
    monkeypatch.setattr("embedge._corpus.records.MAX_ROW_BYTES", 3)
    assert rows_of(file, text_per_file=True)[0].problem.startswith("longer than")


def test_parquet(tmp_path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"key": [4, 5, 6], "body": ["a", None, "c"]}), file)
    rows = rows_of(file, column="body", id_column="key")
    assert [(row.identifier, row.text, row.line) for row in rows if not row.problem] == [
        (4, "a", 1),
        (6, "c", 3),
    ]
    assert rows[1].problem == "'body' is empty; expected text"
    with pytest.raises(CorpusError, match="column 'nope' is missing"):
        rows_of(file, column="nope")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CorpusError, match=r"a\.parquet: cannot be read as Parquet"):
        rows_of(file, column="body")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_parquet_whose_name_is_no_text(tmp_path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    file = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    with file.open("wb") as stream:
        parquet.write_table(pyarrow.table({"text": ["a", "b"]}), stream)
    assert [row.text for row in rows_of(file)] == ["a", "b"]
    assert known_total(find_inputs([str(file)]), Reading()) == 2


def test_parquet_without_pyarrow(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedge\[data\]'"):
        rows_of(written(tmp_path / "a.parquet", "x"))


def test_stdin(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    assert [row.text for row in read_rows(find_inputs(["-"]), Reading())] == ["one", "two"]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CorpusError, match="stdin is closed"):
        list(read_rows(find_inputs(["-"]), Reading()))


def test_chunks_hold_as_many_different_texts(tmp_path) -> None:
    file = written(tmp_path / "a.txt", "a\nb\na\na\nc\nb\nd\n")
    chunks = list(take_chunks(iter(rows_of(file)), 2))
    assert [chunk.asked for chunk in chunks] == [("a", "b"), ("c", "b"), ("d",)]
    assert [chunk.which for chunk in chunks] == [(0, 1, 0, 0), (0, 1), (0,)]
    assert [chunk.num_read for chunk in chunks] == [4, 2, 1]


def test_an_identifier_comes_once(tmp_path) -> None:
    file = written(
        tmp_path / "a.jsonl", '{"text": "a", "id": 1}\n{"text": "b", "id": "1"}\n{"text": "c", "id": 1}\n'
    )
    with pytest.raises(CorpusError, match=r"a\.jsonl:3: identifier 1 is there a second time"):
        list(refuse_repeated(iter(rows_of(file, id_column="id"))))


def test_half_of_a_surrogate_pair_is_a_bad_row(tmp_path) -> None:
    """UTF-7 can say it, and JSON, whose readers refuse it by themselves."""
    half = "+2D0-"
    file = written(tmp_path / "a.csv", f"text,pair,id\na,b,1\nc,{half},2\n{half},d,3\ne,f,{half}\n")
    columns = {"column": "text", "pair_column": "pair", "id_column": "id", "encoding": "utf-7"}
    rows = rows_of(file, **columns)
    assert [row.line for row in rows if "half of a surrogate pair" in row.problem] == [3, 4, 5]
    assert list(refuse_repeated(iter(rows))) == rows
    (whole,) = rows_of(written(tmp_path / "b.txt", f"a {half} b"), text_per_file=True, encoding="utf-7")
    assert "half of a surrogate pair" in whole.problem
