"""Embed texts with fastembed from a local folder: FOLDER SIZE FILE < texts.json > vectors.json."""

import json
import sys

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

folder, size, file = sys.argv[1:]
TextEmbedding.add_custom_model(
    model="local/bundle",
    pooling=PoolingType.MEAN,
    normalization=True,
    sources=ModelSource(hf="local/bundle"),
    dim=int(size),
    model_file=file,
)
model = TextEmbedding("local/bundle", specific_model_path=folder)
json.dump([row.tolist() for row in model.embed(json.load(sys.stdin))], sys.stdout)
