"""Bytes become lines of text, in constant memory; what cannot be read is told line by line."""

from __future__ import annotations

import codecs
import io
import re
import sys
from collections.abc import Iterator
from typing import IO, TypeAlias

from embedge._corpus.inputs import STDIN, InputFile
from embedge.errors import CorpusError

MAX_ROW_BYTES = 100_000_000
"""A longer row is rejected; it would be held in memory several times, and hardly anyone means it."""

_PIECE = 1 << 20
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FIRST_WIDE = re.compile(rb"[\xf0-\xff]")
"""What a character of four bytes begins with in UTF-8."""
_BY_LINE = ("ascii", "cp1252", "iso8859-1", "iso8859-15", "latin-1", "utf-8", "utf-8-sig")
"""Encodings in which the byte of a line feed is never part of another character."""

Line: TypeAlias = "tuple[int, str | None, str]"
"""Its number from 1, its text, and why there is none."""


def open_bytes(file: InputFile) -> IO[bytes]:
    """Open a file, or stdin.

    Raises:
        CorpusError: stdin is closed.
        OSError: the file cannot be opened.
    """
    if file.name != STDIN:
        return file.path.open("rb")
    if sys.stdin is None:
        raise CorpusError("stdin is closed; expected texts there. Name a file instead of -.")
    return sys.stdin.buffer


def find_encoding(stream: IO[bytes], stated: str) -> tuple[IO[bytes], str]:
    """Look for the mark at the start that tells of UTF-8, UTF-16 or UTF-32.

    Args:
        stream: at its start.
        stated: what the caller says; holds where there is no mark.

    Returns:
        A stream at the start of the text, and the encoding.

    Raises:
        CorpusError: Python does not know the encoding.
    """
    try:
        name = codecs.lookup(stated).name
    except LookupError:
        raise CorpusError(
            f"encoding {stated!r} is not known; expected one of Python's, as utf-8, utf-16 or cp1252"
        ) from None
    buffered = io.BufferedReader(_Raw(stream), _PIECE)
    start = buffered.peek(4)
    mark = next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)
    return buffered, mark or name


def lines(stream: IO[bytes], encoding: str, errors: str) -> Iterator[Line]:
    """The lines of a stream; a carriage return before the line feed is no part of one.

    Args:
        stream: bytes, from the start.
        encoding: as `find_encoding` gives it.
        errors: Python's word for what becomes of bytes that are none of it: "strict" gives a line without text.

    Raises:
        CorpusError: a stream of several bytes a character cannot be decoded, after which no line can be found.
    """
    if codecs.lookup(encoding).name in _BY_LINE:
        yield from _lines_of_bytes(stream, encoding, errors)
    else:
        yield from _lines_of_text(stream, encoding, errors)


def _lines_of_bytes(stream: IO[bytes], encoding: str, errors: str) -> Iterator[Line]:
    number = 0
    while raw := stream.readline(MAX_ROW_BYTES + 2):
        number += 1
        if len(raw) > MAX_ROW_BYTES and not raw.endswith(b"\n"):
            while (more := stream.readline(_PIECE)) and not more.endswith(b"\n"):
                pass
            yield number, None, f"longer than {MAX_ROW_BYTES / 1e6:.0f} MB"
            continue
        try:
            # the mark belongs to the first line alone
            by = encoding if number == 1 or encoding != "utf-8-sig" else "utf-8"
            parts = _parts(memoryview(raw)[: len(raw) - _size_of_end(raw)], by, errors)
        except UnicodeDecodeError as error:
            yield number, None, f"not {encoding}: {error.reason} at byte {error.start} of the line"
            continue
        del raw  # which may be as large as the text, and would be held as long as that is computed
        text = parts.pop() if len(parts) == 1 else "".join(parts)
        parts.clear()
        yield number, text, ""


def _parts(raw: memoryview, encoding: str, errors: str) -> list[str]:
    """A line's text; of a long one whose first emoji comes late, what is before it and the rest.

    Python widens all that it has decoded when a wider character comes, and holds both meanwhile, beside the bytes.
    Parts can be put together when the bytes are gone.
    """
    late = len(raw) // 4 * 3
    first = _FIRST_WIDE.search(raw, late) if len(raw) > _PIECE and encoding.startswith("utf") else None
    if first is None or _FIRST_WIDE.search(raw, 0, late):
        return [str(raw, encoding, errors)]
    try:
        # no character goes over the place: a byte that begins one is part of no other
        return [str(raw[: first.start()], encoding, errors), str(raw[first.start() :], "utf-8", errors)]
    except UnicodeDecodeError:
        return [str(raw, encoding, errors)]  # whose error counts bytes from the line's start


def _lines_of_text(stream: IO[bytes], encoding: str, errors: str) -> Iterator[Line]:
    number = 0
    reader = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="\n")
    try:
        while text := reader.readline(MAX_ROW_BYTES + 2):
            number += 1
            if len(text) > MAX_ROW_BYTES and not text.endswith("\n"):
                while (more := reader.readline(_PIECE)) and not more.endswith("\n"):
                    pass
                yield number, None, f"longer than {MAX_ROW_BYTES / 1e6:.0f} million characters"
                continue
            yield number, text[: len(text) - _size_of_end(text)], ""
    except UnicodeError as error:
        raise CorpusError(
            f"after line {number} the text is not {encoding}: {error}. Pass the right --encoding, or "
            "--encoding-errors replace."
        ) from error


def _size_of_end(line: str | bytes) -> int:
    feed, both = ("\n", "\r\n") if isinstance(line, str) else (b"\n", b"\r\n")
    return 2 if line.endswith(both) else int(line.endswith(feed))  # type: ignore[arg-type]  # both of one type


class _Raw(io.RawIOBase):
    """A stream of bytes whose end may be looked at, stdin and pipes included."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        read = getattr(self._stream, "read1", self._stream.read)
        data: bytes = read(len(target))
        target[: len(data)] = data
        return len(data)
