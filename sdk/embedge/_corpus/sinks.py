"""Files that rows are written to: each grows by what is appended, can be cut back, and becomes whole at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import numpy as np

from embedge._corpus import parquet
from embedge._corpus.precision import Stored, stored_size, stored_type
from embedge._corpus.records import Identifier
from embedge._corpus.sidecar import Sidecar
from embedge._replacing import replace_whole
from embedge.errors import CorpusError

_HEADER_SIZE = 128
"""Of an .npy file: room for any number of rows, so that it is written last."""

_PIECE = 1 << 20
"""Characters of a text that are encoded together."""


class Rows(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is written of a chunk.

    Attributes:
        numbers: (num_rows, size) as it is stored.
        identifiers: one for each row; the row's number in the output where the input has none.
        texts: one for each row, or None where they are not kept.
        pairs: the second text of each, where rows are pairs.
    """

    numbers: Stored
    identifiers: Sequence[Identifier]
    texts: Sequence[str] | None
    pairs: Sequence[str] | None = None


class Sink(Protocol):
    """An output that is being written."""

    def append(self, rows: Rows) -> None:
        """Write further rows."""
        ...

    def sync(self) -> dict[str, int]:
        """Put on disk what was appended; how large each file is by now."""
        ...

    def finish(self, sidecar: bytes) -> None:
        """Make the output whole, under its name."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...

    def tidy(self) -> None:
        """Remove what a whole output has no use for, once nobody goes on with its job."""
        ...


class Growing:
    """A file beside the output that grows; opened at the size that is known to be whole.

    Args:
        target: its name at the end.
        sizes: bytes that are whole, by name.
        start: bytes that are left free at its start.
    """

    def __init__(self, target: Path, sizes: dict[str, int], start: int = 0) -> None:
        self.target = target
        self.part = target.with_name(f"{target.name}.part")
        size = sizes.get(target.name, 0)
        if size and not self.part.is_file() and target.is_file() and target.stat().st_size == size:
            target.replace(self.part)  # the job was cut off while it gave its files their names
        if size and not self.part.is_file():
            raise CorpusError(
                f"{self.part} is missing; expected what the job wrote so far. Pass --overwrite."
            )
        self.stream: IO[bytes] = self.part.open("r+b" if size else "w+b")
        if self.part.stat().st_size < size:
            self.stream.close()
            raise CorpusError(
                f"{self.part} is shorter than the job wrote it; expected it whole. Pass --overwrite."
            )
        self.stream.truncate(max(size, start))
        self.stream.seek(0, os.SEEK_END)

    def size(self) -> int:
        """Put it on disk; how large it is."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        return self.stream.tell()

    def finish(self) -> None:
        """Give it its name."""
        self.size()
        self.stream.close()
        self.part.replace(self.target)


class _Npy:
    """`FILE.npy`, with identifiers and texts in FILE.npy.rows.jsonl."""

    def __init__(self, output: Path, sizes: dict[str, int]) -> None:
        self._output = output
        self._numbers = Growing(output, sizes, _HEADER_SIZE)
        self._rows = Growing(output.with_name(f"{output.name}.rows.jsonl"), sizes)

    def append(self, rows: Rows) -> None:
        self._numbers.stream.write(np.ascontiguousarray(rows.numbers).data)
        self._rows.stream.writelines(_lines(rows))

    def sync(self) -> dict[str, int]:
        return {each.target.name: each.size() for each in (self._numbers, self._rows)}

    def finish(self, sidecar: bytes) -> None:
        facts = msgspec.json.decode(sidecar, type=Sidecar)
        shape = (facts.num_rows, stored_size(facts.precision, facts.dimensions))
        stream = self._numbers.stream
        stream.seek(0)
        stream.write(_npy_header(stored_type(facts.precision), shape))
        stream.seek(0, os.SEEK_END)
        replace_whole(self._output.with_name(f"{self._output.name}.json"), sidecar)
        self._rows.finish()
        self._numbers.finish()

    def close(self) -> None:
        self._numbers.stream.close()
        self._rows.stream.close()

    def tidy(self) -> None:
        """Nothing is left over."""


class _Jsonl:
    """A line with identifier, text and numbers for each row."""

    def __init__(self, output: Path, sizes: dict[str, int]) -> None:
        self._output = output
        self._lines = Growing(output, sizes)

    def append(self, rows: Rows) -> None:
        self._lines.stream.writelines(_lines(rows, rows.numbers))

    def sync(self) -> dict[str, int]:
        return {self._output.name: self._lines.size()}

    def finish(self, sidecar: bytes) -> None:
        replace_whole(self._output.with_name(f"{self._output.name}.json"), sidecar)
        self._lines.finish()

    def close(self) -> None:
        self._lines.stream.close()

    def tidy(self) -> None:
        """Nothing is left over."""


class _Parquet:
    """Columns id, text and embedding; each chunk is a file of its own until the end puts them into one."""

    def __init__(self, output: Path, sizes: dict[str, int]) -> None:
        parquet.require()
        self._output = output
        self._folder = output.with_name(f"{output.name}.parts")
        self._folder.mkdir(exist_ok=True)
        self._sizes = {name: size for name, size in sizes.items() if name.endswith(".chunk")}
        for file in self._folder.iterdir():
            if file.name not in self._sizes:
                file.unlink()
        for name, size in self._sizes.items():
            file = self._folder / name
            if not file.is_file() or file.stat().st_size != size:
                raise CorpusError(
                    f"{file} is missing or not whole; expected what the job wrote. Pass --overwrite."
                )

    def append(self, rows: Rows) -> None:
        file = self._folder / f"{len(self._sizes):08}.chunk"
        with file.open("wb") as stream:
            columns = {"id": rows.identifiers, "text": rows.texts, "pair": rows.pairs}
            there = {name: values for name, values in columns.items() if values is not None}
            parquet.write_chunk(stream, there, rows.numbers)
            stream.flush()
            os.fsync(stream.fileno())
        self._sizes[file.name] = file.stat().st_size

    def sync(self) -> dict[str, int]:
        return dict(self._sizes)

    def finish(self, sidecar: bytes) -> None:
        part = self._output.with_name(f"{self._output.name}.part")
        parquet.join_chunks([self._folder / name for name in sorted(self._sizes)], part, sidecar)
        part.replace(self._output)

    def close(self) -> None:
        """Every chunk's file is closed already."""

    def tidy(self) -> None:
        for name in self._sizes:
            (self._folder / name).unlink()
        self._folder.rmdir()


SINKS: dict[str, Any] = {".jsonl": _Jsonl, ".npy": _Npy, ".parquet": _Parquet}
"""What writes an output, by the end of its name."""


def open_sink(output: Path, sizes: dict[str, int]) -> Sink:
    """Open an output to append to.

    Args:
        output: its name; check_name has passed it.
        sizes: what of each file is whole; empty for a new one.

    Raises:
        CorpusError: less is there than was written.
    """
    sink: Sink = SINKS[output.suffix.lower()](output, sizes)
    return sink


def check_name(output: Path) -> None:
    """Refuse names whose end says nothing, and folders.

    Raises:
        CorpusError: the message lists what is known.
    """
    if output.suffix.lower() not in SINKS:
        raise CorpusError(
            f"{output} ends in {output.suffix!r}; expected a name that ends in {', '.join(SINKS)}"
        )
    if output.is_dir() or not output.parent.is_dir():
        problem = "is a folder" if output.is_dir() else "lies in no folder that exists"
        raise CorpusError(f"{output} {problem}; expected a file to write, as in vectors.npy")


def left_files(output: Path) -> list[Path]:
    """Every file of an output, finished or not, that is there."""
    names = [output.name, f"{output.name}.rows.jsonl", f"{output.name}.json"]
    files = [output.with_name(name + end) for name in names for end in ("", ".part")]
    folder = output.with_name(f"{output.name}.parts")
    files += sorted(folder.iterdir()) if folder.is_dir() else []
    return [file for file in files if file.exists()]


def _lines(rows: Rows, numbers: Stored | None = None) -> Iterator[bytes]:
    """A JSON object for each row, in one piece or several."""
    for index, identifier in enumerate(rows.identifiers):
        line: dict[str, Any] = {"id": identifier}
        long: dict[str, str] = {}
        for name, texts in (("text", rows.texts), ("pair", rows.pairs)):
            if texts is not None:
                is_long = len(texts[index]) > _PIECE
                line[name] = "" if is_long else texts[index]
                long |= {name: texts[index]} if is_long else {}
        if numbers is not None:
            line["embedding"] = numbers[index].tolist()
        encoded = msgspec.json.encode(line) + b"\n"
        yield from _with_long(encoded, long) if long else (encoded,)


def _with_long(line: bytes, texts: dict[str, str]) -> Iterator[bytes]:
    """A line with texts in the places of empty ones; encoded whole they would be held four times."""
    for name, text in texts.items():
        start = f'"{name}":"'.encode()
        before, _, line = line.partition(start)
        yield before + start
        for place in range(0, len(text), _PIECE):
            yield msgspec.json.encode(text[place : place + _PIECE])[1:-1]
    yield line


def _npy_header(kind: np.dtype[Any], shape: tuple[int, int]) -> bytes:
    """Header of version 1.0, padded to its fixed size."""
    facts = f"{{'descr': {kind.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    size = _HEADER_SIZE - 10
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + facts.ljust(size - 1).encode() + b"\n"
