"""Static embeddings: sentence-transformers' StaticEmbedding and model2vec, a table of one row per token id."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray
from embedge_export.families.table import STATIC
from embedge_export.source.files import Files
from embedge_export.source.modules import (
    EMBEDDING,
    Chain,
    Pooling,
    chain_to,
    row_size,
    without_last_normalize,
)
from embedge_export.source.repository import weight_files
from embedge_export.source.tensors import read_shapes, read_tensors
from embedge_export.source.transformer import Transformer
from embedge_export.spec import ExportSpec

MODEL2VEC_MAX_SEQ_LEN = 512
_TABLES = ("embedding.weight", "embeddings")


_MEAN = Pooling(modes=("MEAN",))


class Static(msgspec.Struct, frozen=True, kw_only=True, tag="static"):
    """A lookup and a mean.

    Attributes:
        rows: modules that make the embedding of the table's rows, the mean first.
        normalize: as in the manifest.
    """

    rows: Chain = (_MEAN,)
    normalize: bool = False


def is_static(files: Files) -> bool:
    """Whether a checkpoint is a table and no transformer."""
    first = files.modules.first if files.modules else None
    return first == "StaticEmbedding" or files.config.get("model_type") == "model2vec"


def read_static(files: Files, spec: ExportSpec, transformer: Transformer) -> Static:
    """Read what is done with the mean.

    Raises:
        ExportError: sizes do not chain.
    """
    modules = files.modules
    rows: Chain = (_MEAN,)
    normalize = bool(files.config.get("normalize", False))
    if modules:
        # the library's module gives the mean already
        chain, normalize = without_last_normalize(chain_to(EMBEDDING, modules.sequence, EMBEDDING) or ())
        rows = (_MEAN, *chain)
        row_size(rows, transformer.hidden_size)
    return Static(rows=rows, normalize=normalize if spec.normalize is None else spec.normalize)


def read_table_shape(files: Files) -> Transformer:
    """Read the sizes of the table from the weights' header; they stand for a transformer's.

    Raises:
        ExportError: the weights hold no table.
    """
    shapes = read_shapes(weight_files(files.transformer)[0])
    table = shapes.get("embedding.weight") or shapes.get("embeddings")
    if table is None or len(table) != 2:
        raise ExportError(
            f"the static embedding's weights hold {', '.join(shapes) or 'nothing'}; "
            "expected a table named embedding.weight or embeddings"
        )
    # sentence-transformers reads model2vec's plain tables as its own, unknown tokens and all; no others
    is_plain = files.modules is not None and not {"mapping", "weights"} & shapes.keys()
    return Transformer(
        family=STATIC,
        model_type="static" if is_plain else "model2vec",
        architecture="StaticEmbedding" if files.modules else "StaticModel",
        hidden_size=table[1],
        vocab_size=shapes["mapping"][0] if "mapping" in shapes else table[0],
    )


def read_table(folder: Path) -> FloatArray:
    """One embedding per token id, float32 (vocab_size, size), model2vec's weights and mapping applied.

    Raises:
        ExportError: the weights hold no embedding table, or another than the config states.
    """
    tensors = read_tensors(folder)
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
