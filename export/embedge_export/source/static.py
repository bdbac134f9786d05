"""Static embeddings: sentence-transformers' StaticEmbedding and model2vec, a table of one row per token id."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray, Side
from embedge_export.families.table import STATIC
from embedge_export.source.fields import account_for, some_object, whole
from embedge_export.source.files import CONFIG, Files
from embedge_export.source.repository import read_json, weight_files
from embedge_export.source.tensors import read_shapes, read_tensors
from embedge_export.source.transformer import Transformer
from embedge_export.spec import ExportSpec

_MODEL2VEC_MAX_SEQ_LEN = 512
_MODEL2VEC_KEYS = {
    "apply_pca": "how the table was made",
    "apply_zipf": "how the table was made",
    "architectures": "a name",
    "embedding_dtype": "the tensors say so themselves",
    "head_config": "of a classifier that is trained on top",
    "hidden_dim": "the tensors say so themselves",
    "pooling": "how the table was made",
    "seq_length": "model2vec does not read it",
    "sif_coefficient": "how the table was made",
    "tokenizer_name": "a name",
    "vocabulary_quantization": "the tensors say so themselves",
}
_TABLES = ("embedding.weight", "embeddings")


class Static(msgspec.Struct, frozen=True, kw_only=True, tag="static"):
    """A lookup and a mean.

    Attributes:
        normalize: as in the manifest.
        max_seq_len: tokens of a text that count; None for all.
        truncation_side: from which the others go.
    """

    normalize: bool = False
    max_seq_len: int | None = None
    truncation_side: Side = "right"


def is_static(files: Files) -> bool:
    """Whether a checkpoint is a table and no transformer."""
    first = files.modules.first if files.modules else None
    return first == "StaticEmbedding" or files.config.get("model_type") == "model2vec"


def read_static(files: Files, spec: ExportSpec) -> Static:
    """Read what is done with the mean, and how much of a text counts.

    sentence-transformers obeys tokenizer.json's truncation, model2vec its own config.json.

    Raises:
        ExportError: a key or value that embedge does not know.
    """
    modules = files.modules
    normalize = modules.normalize if modules else bool(files.config.get("normalize", False))
    limit, side = _truncation(files) if modules else (_model2vec_limit(files, spec), "right")
    return Static(
        normalize=normalize if spec.normalize is None else spec.normalize,
        max_seq_len=limit,
        truncation_side=side,
    )


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
    # sentence-transformers reads model2vec's tables as its own, unknown tokens and all
    is_plain = files.modules is not None
    return Transformer(
        family=STATIC,
        model_type="static" if is_plain else "model2vec",
        architecture="StaticEmbedding" if files.modules else "StaticModel",
        hidden_size=table[1],
        vocab_size=shapes["mapping"][0] if "mapping" in shapes else table[0],
    )


def _truncation(files: Files) -> tuple[int | None, Side]:
    """Tokens that tokenizer.json leaves of a text, and the side that it drops."""
    truncation = some_object(
        read_json(files.transformer, "tokenizer.json").get("truncation"), "truncation", "tokenizer.json"
    )
    if not truncation:
        return None, "right"
    return (
        whole(truncation.get("max_length"), "truncation.max_length", "tokenizer.json"),
        "left" if truncation.get("direction") == "Left" else "right",
    )


def _model2vec_limit(files: Files, spec: ExportSpec) -> int | None:
    account_for(
        files.config,
        CONFIG,
        known=("max_length", "model_type", "normalize"),
        ignored=_MODEL2VEC_KEYS,
        ignore_keys=getattr(spec, "ignore_keys", ()),
    )
    stated = files.config.get("max_length", _MODEL2VEC_MAX_SEQ_LEN)
    return None if stated is None else whole(stated, "max_length", CONFIG)


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
