"""A checkpoint's weights held against the structure that its config.json describes, as transformers does on loading."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge.errors import ExportError
from embedge_export.families.structure import Encoder, Head, Tensor, tensors
from embedge_export.graph.built.weights import StoredWeights, Weights
from embedge_export.source.tensors import not_finite
from embedge_export.source.torch_model import is_harmless, some


def check_fit(
    encoder: Encoder, head: Head | None, weights: StoredWeights, *, leaves_over: bool = False
) -> None:
    """Refuse weights that do not fit.

    Args:
        encoder: what config.json describes.
        head: likewise; None where it has none.
        weights: what there is.
        leaves_over: weights may be left over, as the checkpoint's settings change its config.json.

    Raises:
        ExportError: a weight is missing, superfluous, or of another shape.
    """
    wanted = {tensor.name: tensor for tensor in (*tensors(encoder), *tensors(head))}
    stored = weights.shapes()
    for name, tensor in wanted.items():
        if name in stored and stored[name] != tensor.shape:
            raise ExportError(
                f"weight {name!r} has shape {stored[name]}; config.json asks for {tensor.shape}. "
                "Restore config.json or the weights from the model's origin."
            )
    missing = sorted(name for name in wanted if name not in stored)
    if missing:
        raise ExportError(
            f"the weights lack {some(missing)}; expected every weight that config.json asks for. "
            "Check architectures and the layer counts in config.json, or pass another --task."
        )
    if leaves_over:
        return
    parts = {tensor.name.split(".")[0] for tensor in tensors(encoder)}
    superfluous = sorted(
        name
        for name in stored
        if name.split(".")[0] in parts and name not in wanted and not is_harmless(name)
    )
    if superfluous:
        raise ExportError(
            f"the weights hold {some(superfluous)}, for which config.json has no place; expected weights and config "
            "of one model. Check the layer counts in config.json."
        )


def check_finite(wanted: Sequence[Tensor], weights: Weights) -> None:
    """Refuse weights that are not numbers.

    Raises:
        ExportError: one holds NaN or infinity.
    """
    for tensor in wanted:
        array = weights.read(tensor)
        if not np.isfinite(array.sum(dtype=np.float64)) and not np.isfinite(array).all():
            raise ExportError(not_finite(tensor.name))
