"""CHECKPOINT TEXTS OUTPUT: with sentence-transformers, from Parquet to Parquet."""

import sys

import pyarrow
import pyarrow.parquet
from sentence_transformers import SentenceTransformer

checkpoint, source, output = sys.argv[1:]
table = pyarrow.parquet.read_table(source)
model = SentenceTransformer(checkpoint, device="cpu")
vectors = model.encode(table["text"].to_pylist(), show_progress_bar=True)
column = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
pyarrow.parquet.write_table(pyarrow.table({"id": table["id"], "embedding": column}), output)
