"""Static embeddings: the table that sentence-transformers' StaticEmbedding and model2vec look token ids up in."""

from __future__ import annotations

import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.torch_model import read_tensors

_TABLES = ("embedding.weight", "embeddings")


def read_table(checkpoint: Checkpoint) -> FloatArray:
    """One embedding per token id, float32 (vocab_size, size), model2vec's weights and mapping applied.

    Raises:
        ExportError: the weights hold no embedding table, or another than the config states.
    """
    tensors = read_tensors(checkpoint.transformer)
    name = next((name for name in _TABLES if name in tensors), None)
    if name is None or tensors[name].ndim != 2:
        raise ExportError(
            f"model.safetensors holds {', '.join(sorted(tensors)) or 'nothing'}; expected a table named "
            f"{' or '.join(_TABLES)}"
        )
    table = tensors[name]
    if "mapping" in tensors:
        mapping = tensors["mapping"].astype(np.int64)
        if mapping.ndim != 1 or not ((mapping >= 0) & (mapping < len(table))).all():
            raise ExportError(
                f"the tensor mapping names rows up to {mapping.max(initial=0)}; expected one row of the table per "
                f"token id, from 0 to {len(table) - 1}. Copy the checkpoint again."
            )
        table = table[mapping]
    if "weights" in tensors:
        if tensors["weights"].shape != table.shape[:1]:
            raise ExportError(
                f"the tensor weights has shape {tensors['weights'].shape}; expected {table.shape[:1]}, one weight per "
                "token id. Copy the checkpoint again."
            )
        table = table * tensors["weights"][:, None]
    return np.ascontiguousarray(table, dtype=np.float32)
