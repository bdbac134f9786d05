"""CHECKPOINT TEXTS OUTPUT: with txtai, from Parquet to an index that keeps the vectors as they are."""

import sys

import pyarrow.parquet
from txtai import Embeddings

checkpoint, source, output = sys.argv[1:]
table = pyarrow.parquet.read_table(source)
embeddings = Embeddings(path=checkpoint, backend="numpy")
embeddings.index(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
embeddings.save(output)
