"""FOLDER TEXTS OUTPUT: with fastembed, from Parquet to Parquet; the folder holds what it would download."""

import sys

import numpy as np
import pyarrow
import pyarrow.parquet
from fastembed import TextEmbedding

folder, source, output = sys.argv[1:]
table = pyarrow.parquet.read_table(source)
model = TextEmbedding("sentence-transformers/all-MiniLM-L6-v2", specific_model_path=folder)
vectors = np.stack(list(model.embed(table["text"].to_pylist())))
column = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
pyarrow.parquet.write_table(pyarrow.table({"id": table["id"], "embedding": column}), output)
