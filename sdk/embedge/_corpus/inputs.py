"""Which files are meant: names, folders and globs become a list of files, each with its format."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from embedge.errors import CorpusError

Format: TypeAlias = Literal["text", "jsonl", "csv", "tsv", "parquet"]

STDIN = "-"

FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".log": "text",
    ".md": "text",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".rst": "text",
    ".tsv": "tsv",
    ".txt": "text",
}
"""What a file holds, by the end of its name; a file that is named itself may end otherwise, and holds text then."""


_LONGEST_NAME = 255


def is_there(name: str) -> bool:
    """Whether a word names a file, a folder, or a pattern that finds any."""
    try:
        # of an empty text, the path would be the folder that one is in
        return bool(name) and (Path(name).exists() or bool(glob.glob(name, recursive=True)))  # noqa: PTH207
    except (OSError, ValueError):  # too long for a name, or with a zero byte: a text
        return False


def looks_like_a_file(name: str) -> bool:
    """Whether a word that names no file was probably meant to."""
    if len(name) > _LONGEST_NAME or "://" in name or any(map(str.isspace, name)):
        return False
    return Path(name).suffix.lower() in FORMATS


class InputFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file to read.

    Attributes:
        name: as messages and outputs show it; "-" for stdin.
        format: how it is read.
        size: bytes; None for stdin, and for what has no size.
        modified_ns: when it was written last; None likewise.
        place: where it is, if its name is no valid text and is shown otherwise.
    """

    name: str
    format: Format
    size: int | None = None
    modified_ns: int | None = None
    place: str | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.name if self.place is None else self.place)


def find_inputs(names: Iterable[str], given_format: Format | None = None) -> tuple[InputFile, ...]:
    """Files, folders, globs and "-" to the files that are read, in that order; a folder's are sorted by path.

    Args:
        names: as a user writes them.
        given_format: of every file; None goes by the name's end.

    Raises:
        CorpusError: a name matches no file, a folder holds none that is known, or a file is named twice.
    """
    files: list[InputFile] = []
    for name in names:
        files += _files_of(name, given_format)
    seen: set[str] = set()
    for file in files:
        key = file.name if file.name == STDIN else str(file.path.resolve())
        if key in seen:
            raise CorpusError(f"{file.name} is named twice; expected each file once. Leave one of them out.")
        seen.add(key)
    if not files:
        raise CorpusError("no input is named; expected files, folders, globs, or - for stdin")
    return tuple(files)


def _files_of(name: str, given_format: Format | None) -> list[InputFile]:
    if name == STDIN:
        return [InputFile(name=STDIN, format=given_format or "text")]
    path = Path(name)
    if path.is_dir():
        found = [_describe(file, given_format) for file in _walk(path) if file.suffix.lower() in FORMATS]
        if not found:
            raise CorpusError(
                f"folder {name} holds no file that can be read; expected names that end in {', '.join(FORMATS)}"
            )
        return found
    if path.exists():
        return [_describe(path, given_format)]
    matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []  # noqa: PTH207  # absolute too
    if not matches:
        what = "matches no file" if glob.has_magic(name) else "does not exist"
        raise CorpusError(
            f"{name} {what}; expected a file, a folder, a glob, or - for stdin. Check the path."
        )
    return [file for match in matches for file in _files_of(match, given_format)]


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder; what is hidden is passed over, and a folder that links lead back to is read once."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        yield from (Path(root, each) for each in sorted(files) if not each.startswith("."))


def _describe(path: Path, given_format: Format | None) -> InputFile:
    facts = path.stat()
    is_file = path.is_file()
    # a system's names are bytes, which JSON and tables cannot hold where they are no text
    name = str(path).encode("utf-8", "backslashreplace").decode()
    return InputFile(
        name=name,
        place=None if name == str(path) else str(path),
        format=given_format or FORMATS.get(path.suffix.lower(), "text"),
        size=facts.st_size if is_file else None,
        modified_ns=facts.st_mtime_ns if is_file else None,
    )
