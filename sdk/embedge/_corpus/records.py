"""Files become rows: a text or a pair, an identifier, and where it stands; bad rows are told apart, not raised."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from embedge._corpus import parquet
from embedge._corpus.decoding import MAX_ROW_BYTES, Line, find_encoding, lines, open_bytes
from embedge._corpus.inputs import Format, InputFile
from embedge._json import why_not_json
from embedge.errors import CorpusError, expected_one_of

Identifier: TypeAlias = "str | int | None"

_SURROGATE = re.compile("[\ud800-\udfff]")
_USUAL_COLUMNS = ("text", "sentence", "content")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How files are read.

    Attributes:
        column: of the text; None takes "text", "sentence" or "content", or the only one.
        pair_column: of the second text of each pair; None where rows are single texts.
        id_column: of the identifier; None numbers the rows.
        text_per_file: a whole file is one text, and its path the identifier.
        encoding: where the file does not begin with a mark that tells.
        encoding_errors: as Python's open takes it.
    """

    column: str | None = None
    pair_column: str | None = None
    id_column: str | None = None
    text_per_file: bool = False
    encoding: str = "utf-8"
    encoding_errors: str = "strict"


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of a file.

    Attributes:
        text: the text, or the first of a pair.
        pair: the second of a pair.
        identifier: of the id column; None without one.
        file, line: where it stands; the line counts from 1, in a Parquet file the row does.
        problem: why the row cannot be used; "" where it can.
    """

    text: str = ""
    pair: str | None = None
    identifier: Identifier = None
    file: str
    line: int
    problem: str = ""


def read_rows(files: Sequence[InputFile], reading: Reading) -> Iterator[Row]:
    """The rows of files, one after the other; those that cannot be used say so.

    Raises:
        CorpusError: a file as a whole cannot be read as what it is: no such column, damaged, not of its encoding.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
        OSError: a file cannot be opened or read.
    """
    for file in files:
        if reading.text_per_file:
            yield _checked(_whole(file, reading))
            continue
        try:
            for row in _READERS[file.format](file, reading):
                yield _checked(row)
        except CorpusError as error:
            raise CorpusError(f"{file.name}: {error}") from error


def known_total(files: Sequence[InputFile], reading: Reading) -> int | None:
    """How many rows `read_rows` gives, where that is known before they are read: Parquet, and a text per file."""
    if reading.text_per_file:
        return len(files)
    if any(file.format != "parquet" for file in files):
        return None
    return sum(parquet.count_rows(file.path) for file in files)


def _checked(row: Row) -> Row:
    if row.problem:
        return row
    if any(
        isinstance(each, str) and _SURROGATE.search(each) for each in (row.text, row.pair, row.identifier)
    ):
        return msgspec.structs.replace(
            row, text="", problem="holds half of a surrogate pair, which is no text"
        )
    return row


def _whole(file: InputFile, reading: Reading) -> Row:
    with open_bytes(file) as stream:
        start, encoding = find_encoding(stream, reading.encoding)
        data = start.read(MAX_ROW_BYTES + 1)
    if len(data) > MAX_ROW_BYTES:
        return Row(file=file.name, line=1, problem=f"longer than {MAX_ROW_BYTES / 1e6:.0f} MB")
    try:
        text = data.decode(encoding, reading.encoding_errors)
    except UnicodeDecodeError as error:
        return Row(file=file.name, line=1, problem=f"not {encoding}: {error.reason} at byte {error.start}")
    return Row(text=text, identifier=file.name, file=file.name, line=1)


def _lines(file: InputFile, reading: Reading) -> Iterator[Line]:
    with open_bytes(file) as stream:
        start, encoding = find_encoding(stream, reading.encoding)
        yield from lines(start, encoding, reading.encoding_errors)


def _text_rows(file: InputFile, reading: Reading) -> Iterator[Row]:
    if reading.column or reading.pair_column or reading.id_column:
        raise CorpusError(
            "lines of text have no columns; expected .jsonl, .csv, .tsv or .parquet, or no column"
        )
    for number, text, problem in _lines(file, reading):
        yield Row(text=text or "", file=file.name, line=number, problem=problem)


def _jsonl_rows(file: InputFile, reading: Reading) -> Iterator[Row]:
    decoder = msgspec.json.Decoder()
    for number, text, problem in _lines(file, reading):
        if text is None or not text.strip():
            yield Row(file=file.name, line=number, problem=problem or "empty; expected one JSON value a line")
            continue
        try:
            value = decoder.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
            yield Row(file=file.name, line=number, problem=f"not JSON: {why_not_json(text, error)}")
            continue
        if isinstance(value, str):
            value = {reading.column or "text": value}
        if not isinstance(value, dict):
            problem = f"a JSON {type(value).__name__}; expected an object or a string"
            yield Row(file=file.name, line=number, problem=problem)
            continue
        column = reading.column or next((name for name in _USUAL_COLUMNS if name in value), "text")
        yield _row(value, column, reading, file, number)


def _separated_rows(separator: str) -> Callable[[InputFile, Reading], Iterator[Row]]:
    def rows(file: InputFile, reading: Reading) -> Iterator[Row]:
        csv.field_size_limit(MAX_ROW_BYTES)
        with open_bytes(file) as stream:
            start, encoding = find_encoding(stream, reading.encoding)
            text = io.TextIOWrapper(start, encoding=encoding, errors=reading.encoding_errors, newline="")
            try:
                yield from _fields(csv.reader(text, delimiter=separator, strict=True), file, reading)
            except csv.Error as error:
                raise CorpusError(f"cannot be read as {file.format}: {error}. Check its quotes.") from error
            except UnicodeError as error:
                raise CorpusError(
                    f"is not {encoding}: {error}. Pass the right --encoding, or --encoding-errors replace."
                ) from error

    return rows


def _fields(reader: Any, file: InputFile, reading: Reading) -> Iterator[Row]:
    header = next(reader, None)
    if header is None:
        raise CorpusError("is empty; expected a first line that names the columns")
    column = choose_column(header, reading)
    for fields in reader:
        if not fields:
            continue
        if len(fields) != len(header):
            problem = f"{len(fields)} fields; expected {len(header)}, as the first line names"
            yield Row(file=file.name, line=reader.line_num, problem=problem)
            continue
        yield _row(dict(zip(header, fields, strict=True)), column, reading, file, reader.line_num)


def _parquet_rows(file: InputFile, reading: Reading) -> Iterator[Row]:
    names = parquet.column_names(file.path)
    column = choose_column(names, reading)
    wanted = [name for name in (column, reading.pair_column, reading.id_column) if name is not None]
    for number, values in enumerate(parquet.read_values(file.path, list(dict.fromkeys(wanted))), 1):
        yield _row(values, column, reading, file, number)


def choose_column(names: Sequence[str], reading: Reading) -> str:
    """Name of the column with the text.

    Raises:
        CorpusError: a column is missing or there twice, or none is named and several might be meant.
    """
    wanted = (reading.column, reading.pair_column, reading.id_column)
    for name in wanted:
        if name is not None and list(names).count(name) != 1:
            how = "is missing" if name not in names else "is there more than once"
            raise CorpusError(
                f"column {name!r} {how}; {expected_one_of(map(repr, names), 'there are no columns')}"
            )
    if reading.column is not None:
        return reading.column
    usual = next((name for name in _USUAL_COLUMNS if list(names).count(name) == 1), None)
    others = [name for name in names if name not in wanted]
    if usual is None and len(others) != 1:
        raise CorpusError(
            f"does not say which column holds the text; "
            f"{expected_one_of(map(repr, others), 'no column is left for it')}. Pass it as --column."
        )
    return usual or others[0]


def _row(values: dict[str, Any], column: str, reading: Reading, file: InputFile, number: int) -> Row:
    texts: list[str] = []
    for name in (column, reading.pair_column):
        if name is None:
            continue
        value = values.get(name)
        if not isinstance(value, str):
            what = "is empty" if value is None else f"is a {type(value).__name__}"
            what = what if name in values else "is missing"
            return Row(file=file.name, line=number, problem=f"{name!r} {what}; expected text")
        texts.append(value)
    identifier = None if reading.id_column is None else values.get(reading.id_column)
    if reading.id_column is not None and (
        isinstance(identifier, bool) or not isinstance(identifier, str | int)
    ):
        problem = f"{reading.id_column!r} is {identifier!r}; expected text or a whole number"
        return Row(file=file.name, line=number, problem=problem)
    pair = texts[1] if len(texts) > 1 else None
    return Row(text=texts[0], pair=pair, identifier=identifier, file=file.name, line=number)


_READERS: dict[Format, Callable[[InputFile, Reading], Iterator[Row]]] = {
    "csv": _separated_rows(","),
    "jsonl": _jsonl_rows,
    "parquet": _parquet_rows,
    "text": _text_rows,
    "tsv": _separated_rows("\t"),
}
