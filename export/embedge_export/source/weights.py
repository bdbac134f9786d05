"""All weights of a checkpoint, read once: the network, the modules after it, or the table of static embeddings."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.types import FloatArray
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.modules import Weighted
from embedge_export.source.static import Static, read_table
from embedge_export.source.tensors import LoadedModule, load_module
from embedge_export.source.torch_model import load_model


class LoadedWeights(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What an export computes with.

    Attributes:
        model: the transformer, a torch.nn.Module in float32; None for static embeddings, and where only an ONNX file
            is wrapped.
        modules: those with weights of their own.
        table: float32 of shape (vocab_size, size) of static embeddings.
    """

    model: Any = None
    modules: dict[Weighted, LoadedModule] = msgspec.field(default_factory=dict)
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
        table = read_table(checkpoint.transformer)
        return LoadedWeights(table=table, modules={each: load_module(each) for each in checkpoint.weighted})
    return LoadedWeights(
        model=load_model(checkpoint) if with_model else None,
        modules={each: load_module(each) for each in checkpoint.weighted},
    )
