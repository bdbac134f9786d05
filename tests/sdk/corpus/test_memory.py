"""What a job holds: the same for any number of rows, as Python and pyarrow count what they allocate."""

from __future__ import annotations

import base64
import contextlib
import tracemalloc

import numpy as np
import pytest

from embedge._corpus import parquet
from embedge.corpus import encode_files

pyarrow = pytest.importorskip("pyarrow")

_MIB = 1 << 20
_LONG = 2000
"""Bytes of a text, which no compression makes shorter."""


@contextlib.contextmanager
def counted():
    """A function that tells the most bytes that Python's objects and pyarrow's buffers took at once."""
    usual, own = pyarrow.default_memory_pool(), pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
    pyarrow.set_memory_pool(own)
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] + own.max_memory()
    finally:
        tracemalloc.stop()
        pyarrow.set_memory_pool(usual)


def written(path, num_rows, rows_per_group=None):
    """A Parquet file of long texts."""
    rng = np.random.default_rng(num_rows)
    texts = [base64.b64encode(rng.bytes(_LONG * 3 // 4)).decode() for _ in range(num_rows)]
    table = pyarrow.table({"text": texts})
    parquet.require().write_table(table, path, row_group_size=rows_per_group, use_dictionary=False)
    return path


@pytest.mark.parametrize("rows_per_group", [1000, 10_000], ids=["groups", "one group"])
def test_a_parquet_file_is_not_held_while_it_is_read(tmp_path, rows_per_group) -> None:
    file = written(tmp_path / "texts.parquet", 10_000, rows_per_group)
    with counted() as most:
        assert sum(len(row["text"]) for row in parquet.read_values(file, ["text"])) == 10_000 * _LONG
        assert most() < file.stat().st_size / 2


def test_a_chunk_is_written_in_little_more_than_its_size(tmp_path) -> None:
    numbers = np.random.default_rng(1).standard_normal((2048, 384), dtype=np.float32)
    columns = {"id": list(range(2048)), "text": ["one text of all"] * 2048}
    file = tmp_path / "rows.chunk"
    with counted() as most:
        with file.open("wb") as stream:
            parquet.write_chunk(stream, columns, numbers)
        assert most() < 5 * numbers.nbytes
    assert file.stat().st_size < 1.05 * numbers.nbytes
    assert "PLAIN_DICTIONARY" not in encodings(file, "embedding.list.element")
    assert "RLE_DICTIONARY" in encodings(file, "text")


def encodings(file, column):
    group = parquet.require().read_metadata(file).row_group(0)
    parts = [group.column(place) for place in range(group.num_columns)]
    return next(part.encodings for part in parts if part.path_in_schema == column)


def test_a_job_of_more_rows_takes_no_more_memory(load, tmp_path) -> None:
    model, taken = load(), []
    encode_files(model, written(tmp_path / "first.parquet", 500), tmp_path / "first.out.parquet", chunk=250)
    for num_rows in (2500, 6000):
        file = written(tmp_path / f"{num_rows}.parquet", num_rows)
        with counted() as most:
            encode_files(model, file, tmp_path / f"{num_rows}.out.parquet", chunk=250)
            taken.append(most())
    assert taken[1] < taken[0] + 3 * _MIB  # of 7 more in the file
