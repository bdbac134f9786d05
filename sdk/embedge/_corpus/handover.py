"""Saved rows become an index of a library for larger sets; keys are positions, so identifiers and texts stay here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np

from embedge._corpus.journal import check_free
from embedge._corpus.kept import in_blocks
from embedge._corpus.precision import Stored, sign_bits
from embedge._corpus.stored import Opened
from embedge._replacing import replace_whole
from embedge.errors import CorpusError, MissingExtraError
from embedge.types import IntArray

IndexFormat: TypeAlias = Literal["usearch", "faiss", "lancedb"]

_NEIGHBOURS = 32
"""Of a row in faiss' graph, as its own examples have it."""


def hand_over(opened: Opened, output: Path, index_format: IndexFormat, *, overwrite: bool) -> None:
    """Write an index of all rows, and what is said of them in OUTPUT.json.

    Args:
        opened: the rows.
        output: a file; for lancedb a folder, in which table "rows" has columns row, id, text and vector.
        index_format: whose index. Of usearch and faiss it is a graph: by cosine (of faiss by inner product, and rows of
            length 1), by differing bits for rows of bits.
        overwrite: replace what is there.

    Raises:
        CorpusError: the rows are no embeddings, or the output is there.
        MissingExtraError: the library is not installed.
        OSError: a file cannot be written.
    """
    if opened.sidecar.task != "embed" or not len(opened.rows):
        raise CorpusError(
            f"there are {len(opened.rows)} rows, for {opened.sidecar.task}; expected embeddings to make an index of"
        )
    check_free(output, overwrite=overwrite)
    part = output.with_name(f".{output.name}.part")
    _remove(part)
    try:
        _WRITERS[index_format](opened, part)
        _remove(output)
        part.replace(output)
    finally:
        _remove(part)
    replace_whole(output.with_name(f"{output.name}.json"), msgspec.json.encode(opened.sidecar))


def _write_usearch(opened: Opened, file: Path) -> None:
    try:
        from usearch.index import Index
    except ImportError:
        raise _missing("usearch", "usearch") from None
    facts = opened.sidecar
    if opened.kept.is_bits:
        index = Index(ndim=facts.dimensions, metric="hamming", dtype="b1")
    else:
        kinds = {"float32": "f32", "float16": "f16", "int8": "i8", "uint8": "i8"}
        index = Index(ndim=facts.dimensions, metric="cos", dtype=kinds[facts.precision])
    for places, rows in _blocks(opened):
        index.add(places.astype(np.uint64), rows)
    index.save(str(file))


def _write_faiss(opened: Opened, file: Path) -> None:
    try:
        import faiss
    except ImportError:
        raise _missing("faiss", "faiss-cpu") from None
    if opened.kept.is_bits:
        bits = opened.rows.shape[1] * 8  # it counts in bytes; the last ones of each row are 0
        index = faiss.IndexBinaryHNSW(bits, _NEIGHBOURS)
    else:
        index = faiss.IndexHNSWFlat(opened.sidecar.dimensions, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    for _, rows in _blocks(opened):
        index.add(np.ascontiguousarray(rows))
    (faiss.write_index_binary if opened.kept.is_bits else faiss.write_index)(index, str(file))


def _write_lancedb(opened: Opened, folder: Path) -> None:
    try:
        import lancedb
        import pyarrow
    except ImportError:
        raise _missing("lancedb", "lancedb") from None
    if opened.kept.is_bits:
        raise CorpusError(
            "lancedb makes its own bits of numbers; expected rows in another precision than binary and ubinary"
        )
    identifiers = pyarrow.int64() if isinstance(opened.entries[0].id, int) else pyarrow.string()
    schema = pyarrow.schema(
        {
            "row": pyarrow.int64(),
            "id": identifiers,
            "text": pyarrow.string(),
            "vector": pyarrow.list_(pyarrow.float32(), opened.sidecar.dimensions),
        }
    )

    def batches() -> Iterator[Any]:
        for places, rows in _blocks(opened):
            entries = [opened.entries[int(place)] for place in places]
            yield pyarrow.record_batch(
                [
                    pyarrow.array(places),
                    pyarrow.array([entry.id for entry in entries], identifiers),
                    pyarrow.array([entry.text for entry in entries], pyarrow.string()),
                    pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), rows.shape[1]),
                ],
                schema=schema,
            )

    lancedb.connect(str(folder)).create_table("rows", data=batches(), schema=schema)


_WRITERS: dict[IndexFormat, Callable[[Opened, Path], None]] = {
    "faiss": _write_faiss,
    "lancedb": _write_lancedb,
    "usearch": _write_usearch,
}


def _blocks(opened: Opened) -> Iterator[tuple[IntArray, Stored]]:
    """Positions and rows, of length 1, or as packed bits."""
    kept = opened.kept
    for places in in_blocks(np.arange(len(kept.rows))):
        if kept.is_bits:
            yield places, sign_bits(np.asarray(kept.rows[places]), opened.sidecar.precision)
        else:
            yield places, kept.units(places)


def _missing(name: str, package: str) -> MissingExtraError:
    return MissingExtraError(
        f"this index needs {name}, which is not installed. Install it with: pip install {package}"
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
