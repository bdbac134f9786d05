"""Parquet files; the only importer of pyarrow, which an extra brings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedge._corpus.precision import Stored
from embedge.errors import CorpusError, MissingExtraError

_ROWS = 1024
_READ_BYTES = 1 << 16
"""Of a column at a time."""
_KEY = "embedge"
_REPEATED = ("text", "pair")
"""Columns whose values may repeat. A dictionary of the numbers takes eight times their size, and is thrown away."""


def require() -> Any:
    """Pyarrow's Parquet module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            "Parquet needs pyarrow, which is not installed. Install it with: pip install 'embedge[data]'"
        ) from None
    return pyarrow.parquet


def column_names(file: Path) -> list[str]:
    """Columns of a file, in order.

    Raises:
        CorpusError: it is no Parquet file, or damaged.
    """
    with _opened(file) as opened:
        names: list[str] = opened.schema_arrow.names
        return names


def count_rows(file: Path) -> int:
    """Rows of a file, as its end states them.

    Raises:
        CorpusError: it is no Parquet file, or damaged.
    """
    with _opened(file) as opened:
        return int(opened.metadata.num_rows)


def read_values(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a file, a few thousand of them in memory.

    Raises:
        CorpusError: it is damaged.
    """
    with _opened(file) as opened:
        for batch in opened.iter_batches(_ROWS, columns=list(columns)):
            yield from batch.to_pylist()


def write_chunk(file: Any, columns: Mapping[str, Sequence[Any]], embedding: Stored) -> None:
    """Write a table to an open file.

    Args:
        file: open for writing bytes.
        columns: those beside the embedding; "id" may be text or whole numbers, the others are text.
        embedding: (num_rows, size) as it is stored.
    """
    require()
    import pyarrow

    made = {
        name: pyarrow.array(list(values), None if name == "id" else pyarrow.string())
        for name, values in columns.items()
    }
    flat = pyarrow.array(np.ascontiguousarray(embedding).reshape(-1))
    made["embedding"] = pyarrow.FixedSizeListArray.from_arrays(flat, embedding.shape[1])
    require().write_table(pyarrow.table(made), file, use_dictionary=_repeated(made))


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name in names if name in _REPEATED]


def join_chunks(chunks: Sequence[Path], target: Path, stated: bytes) -> None:
    """Put chunks into one file, a row group each, with what is said of all rows.

    Raises:
        CorpusError: there is none, or columns changed their type on the way.
    """
    parquet = require()
    if not chunks:
        raise CorpusError("no row is there to write; expected one at least in a Parquet file")
    writer = None
    try:
        with _told():
            for chunk in chunks:
                with _opened(chunk) as opened:
                    table = opened.read(use_threads=False).replace_schema_metadata({_KEY: stated})
                if writer is None:
                    writer = parquet.ParquetWriter(
                        target, table.schema, use_dictionary=_repeated(table.column_names)
                    )
                writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def read_output(file: Path) -> tuple[bytes, Stored, list[dict[str, Any]]]:
    """What is said of the rows, the rows as they are stored, and their other columns.

    Raises:
        CorpusError: it is damaged, or another program wrote it.
    """
    with _told():
        table = require().read_table(file)
    stated = (table.schema.metadata or {}).get(_KEY.encode())
    if stated is None:
        raise CorpusError("it was not written by embedge; expected what `embedge encode FILES -o` writes")
    column = table.column("embedding").combine_chunks()
    rows = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    others = [name for name in table.column_names if name != "embedding"]
    return stated, rows, table.select(others).to_pylist()


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A file that is read; opened here, as pyarrow finds none whose name is no valid text."""
    with (
        _told(),
        file.open("rb") as stream,
        # by default it begins by reading all of a column, and without a buffer all of a row group's
        require().ParquetFile(stream, pre_buffer=False, buffer_size=_READ_BYTES) as opened,
    ):
        yield opened


@contextlib.contextmanager
def _told() -> Iterator[None]:
    require()
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise CorpusError(f"cannot be read as Parquet: {reason}. Check that it was copied whole.") from error
