"""Streams and terminal layout shared by the commands."""

from __future__ import annotations

import codecs
import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

_IN_ASCII = MappingProxyType(
    {"█": "#", "░": ".", "→": "->", "…": "...", "–": "-", "─": "-", "×": "x", "’": "'", "“": '"', "”": '"'}
)
"""What is written on a console that lacks the character; "?" stands for others."""


def open_streams() -> None:
    """Let nothing that is printed fail: streams that are not there, and characters that a code page lacks."""
    codecs.register_error("embedge", _in_ascii)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, or a windowed program
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="embedge")


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is no text
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _IN_ASCII.get(character, "?"), error.start + 1


def print_json(value: object) -> None:
    """Write one JSON document and a newline to stdout, as UTF-8 whatever the code page is."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a file's name that is no text, which JSON can only escape
        text = json.dumps(msgspec.to_builtins(value))
    sys.stdout.write(text + "\n")


def width() -> int:
    """Columns to lay text out in."""
    return max(60, min(100, shutil.get_terminal_size((100, 24)).columns))


def bold(text: str) -> str:
    """Bold on a terminal that shows it, plain elsewhere."""
    return _style(text, "1")


def dim(text: str) -> str:
    """Dim on a terminal that shows it, plain elsewhere."""
    return _style(text, "2")


def accent(text: str) -> str:
    """Coloured on a terminal that shows it, plain elsewhere."""
    return _style(text, "36")


def _style(text: str, code: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\033[{code}m{text}\033[0m"


def visible(text: str) -> str:
    """Text of a bundle without what a terminal would obey; white space stays."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Write names and values in two columns; long values wrap under themselves."""
    rows = list(facts)
    column = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        lines = textwrap.wrap(visible(value), width() - column, break_on_hyphens=False) or [""]
        print(dim(name.ljust(column)) + lines[0])
        for line in lines[1:]:
            print(" " * column + line)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write rows under a header; columns as wide as they need."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    print(bold("  ".join(cell.ljust(w) for cell, w in zip(header, widths, strict=True)).rstrip()))
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


def size(size_bytes: int) -> str:
    """A number of bytes in words."""
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.1f} MB"
