"""Hand rows over and ask the library as its users do: LIBRARY VECTORS INDEX TOP; prints the nearest to each row."""

import json
import sys

import numpy as np

from embedge.cli.main import main
from embedge.corpus import Vectors

library, vectors, index, top = *sys.argv[1:4], int(sys.argv[4])
try:
    __import__(library)
except ImportError:
    sys.exit(77)
assert main(["index", vectors, "--format", library, "-o", index]) == 0
opened = Vectors.open(vectors)
bits = "binary" in opened.facts.precision
queries = opened.dequantize()
packed = np.packbits(queries > 0, axis=1)
if library == "usearch":
    from usearch.index import Index

    found = Index.restore(index).search(packed if bits else queries, top).keys
elif library == "faiss":
    import faiss

    read = faiss.read_index_binary if bits else faiss.read_index
    found = read(index).search(packed if bits else queries, top)[1]
else:
    import lancedb

    table = lancedb.connect(index).open_table("rows")
    assert table.count_rows() == len(opened)
    first = table.search(queries[0]).limit(1).to_list()[0]
    assert (first["id"], first["text"]) == (opened.entry(0).id, opened.entry(0).text)
    found = np.array([[row["row"] for row in table.search(each).limit(top).to_list()] for each in queries])
json.dump(found.tolist(), sys.stdout)
