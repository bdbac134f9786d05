"""Rows that a job wrote are opened again: mapped, checked against what is said beside them, and read by number."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge._corpus import parquet
from embedge._corpus.journal import job_file
from embedge._corpus.kept import Kept
from embedge._corpus.precision import Stored, stored_size, stored_type
from embedge._corpus.records import Identifier
from embedge._corpus.sidecar import SCHEMA, Sidecar
from embedge._corpus.sinks import SINKS
from embedge.errors import CorpusError, EmbedgeError


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a row beside its numbers.

    Attributes:
        id: of the input's id column, or the row's number.
        text: where texts were kept.
        pair: the second text, where rows are pairs.
    """

    id: Identifier
    text: str | None = None
    pair: str | None = None


class Opened(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An output's parts.

    Attributes:
        sidecar: what is said of it.
        rows: (num_rows, stored size) as they are stored; .npy files are mapped.
        entries: one for each row.
    """

    sidecar: Sidecar
    rows: Stored
    entries: Sequence[Entry]

    @property
    def kept(self) -> Kept:
        """The rows and how they are stored."""
        return Kept(rows=self.rows, sidecar=self.sidecar)


def open_output(path: Path) -> Opened:
    """Open an output of a job.

    Raises:
        CorpusError: it is not there, not whole, or not what is said beside it.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        raise CorpusError(
            f"{path} ends in {path.suffix!r}; expected rows in a file that ends in {', '.join(SINKS)}"
        )
    if not path.is_file():
        if job_file(path).is_file():
            raise CorpusError(
                f"{path} is not done; expected a whole output. Go on with it: embedge encode … --resume"
            )
        raise CorpusError(
            f"{path} does not exist; expected rows that `embedge encode … -o {path.name}` wrote"
        )
    try:
        return opener(path)
    except EmbedgeError:
        raise
    except (ValueError, KeyError, OSError, EOFError, msgspec.MsgspecError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise CorpusError(
            f"{path} cannot be read: {reason}. Copy it again, with what lies beside it."
        ) from error


class _Lines(Sequence[Entry]):
    """Entries of a mapped file of JSON lines, found by where each begins."""

    def __init__(self, file: Path) -> None:
        with file.open("rb") as stream:
            empty = file.stat().st_size == 0
            self._data = None if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._ends = _line_ends(self._data)
        self._decoder = msgspec.json.Decoder(Entry)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        place = range(len(self._ends))[index]
        assert self._data is not None
        start = int(self._ends[place - 1]) + 1 if place else 0
        return self._decoder.decode(self._data[start : int(self._ends[place])])


def _line_ends(data: mmap.mmap | None) -> np.ndarray[Any, Any]:
    if data is None:
        return np.zeros(0, dtype=np.int64)
    block = 1 << 24
    ends = [
        np.flatnonzero(np.frombuffer(data[start : start + block], dtype=np.uint8) == ord("\n")) + start
        for start in range(0, len(data), block)
    ]
    return np.concatenate(ends)


def _open_npy(path: Path) -> Opened:
    sidecar = _sidecar(path.with_name(f"{path.name}.json"))
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    _check(rows, sidecar, path)
    entries = _Lines(path.with_name(f"{path.name}.rows.jsonl"))
    if len(entries) != len(rows):
        raise CorpusError(
            f"{path} has {len(rows)} rows, and {len(entries)} are named beside it; expected as many"
        )
    return Opened(sidecar=sidecar, rows=rows, entries=entries)


def _open_jsonl(path: Path) -> Opened:
    sidecar = _sidecar(path.with_name(f"{path.name}.json"))
    decoder = msgspec.json.Decoder(dict[str, Any])
    kind = stored_type(sidecar.precision)
    size = stored_size(sidecar.precision, sidecar.dimensions)
    rows = np.empty((sidecar.num_rows, size), dtype=kind)
    entries: list[Entry] = []
    with path.open("rb") as stream:
        for line in stream:
            value = decoder.decode(line)
            if len(entries) == len(rows):
                raise CorpusError(
                    f"{path} has more than {sidecar.num_rows} rows; expected as many as are stated"
                )
            rows[len(entries)] = value.pop("embedding")
            entries.append(msgspec.convert(value, Entry))
    if len(entries) != sidecar.num_rows:
        raise CorpusError(f"{path} has {len(entries)} rows; expected {sidecar.num_rows}. Copy it again.")
    return Opened(sidecar=sidecar, rows=rows, entries=entries)


def _open_parquet(path: Path) -> Opened:
    try:
        stated, rows, others = parquet.read_output(path)
    except CorpusError as error:
        raise CorpusError(f"{path}: {error}") from error
    sidecar = _decode_sidecar(stated, path)
    _check(rows, sidecar, path)
    return Opened(sidecar=sidecar, rows=rows, entries=[msgspec.convert(value, Entry) for value in others])


def _sidecar(file: Path) -> Sidecar:
    try:
        return _decode_sidecar(file.read_bytes(), file)
    except FileNotFoundError:
        raise CorpusError(
            f"{file} is missing; expected it beside the rows, where `embedge encode` wrote it"
        ) from None


def _decode_sidecar(data: bytes, file: Path) -> Sidecar:
    try:
        sidecar = msgspec.json.decode(data, type=Sidecar)
    except ValueError as error:  # msgspec's errors, and wrong UTF-8
        raise CorpusError(f"{file} cannot be read: {error}. Copy it again.") from error
    if sidecar.schema != SCHEMA:
        raise CorpusError(
            f"{file} is of schema {sidecar.schema}; this version reads {SCHEMA}. Use the other version."
        )
    return sidecar


def _check(rows: Stored, sidecar: Sidecar, path: Path) -> None:
    shape = (sidecar.num_rows, stored_size(sidecar.precision, sidecar.dimensions))
    kind = stored_type(sidecar.precision)
    if rows.shape != shape or rows.dtype != kind:
        raise CorpusError(
            f"{path} holds {rows.dtype} {rows.shape}; expected {kind} {shape}, as is stated beside it"
        )


_OPENERS = {".jsonl": _open_jsonl, ".npy": _open_npy, ".parquet": _open_parquet}
