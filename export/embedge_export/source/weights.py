"""All weights of a checkpoint, read once: the network, the Dense modules, or the table of static embeddings."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.types import FloatArray
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.static import Static, read_table
from embedge_export.source.tensors import DenseWeights, load_dense
from embedge_export.source.torch_model import load_model


class LoadedWeights(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What an export computes with.

    Attributes:
        model: the transformer, a torch.nn.Module in float32; None for static embeddings, and where only an ONNX file
            is wrapped.
        dense: Dense modules in order.
        table: float32 of shape (vocab_size, size) of static embeddings.
    """

    model: Any = None
    dense: tuple[DenseWeights, ...] = ()
    table: FloatArray | None = None


def load_weights(checkpoint: Checkpoint, *, with_model: bool = True) -> LoadedWeights:
    """Load a checkpoint's weights.

    Args:
        checkpoint: its facts.
        with_model: load the transformer too, which needs torch.

    Raises:
        ExportError: a weight is missing, superfluous, of another shape, or not a finite number.
    """
    if isinstance(checkpoint.what, Static):
        return LoadedWeights(table=read_table(checkpoint.transformer))
    return LoadedWeights(
        model=load_model(checkpoint) if with_model else None,
        dense=tuple(map(load_dense, checkpoint.dense)),
    )
