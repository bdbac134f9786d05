"""safetensors files as arrays, and the Dense modules that lie in them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray
from embedge_export.source.modules import DenseModule
from embedge_export.source.repository import weight_files


class DenseWeights(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A Dense module with its weights.

    Attributes:
        module: what its config states.
        weight: float32 of shape (out_features, in_features).
        bias: float32 of shape (out_features,), or None.
    """

    module: DenseModule
    weight: FloatArray
    bias: FloatArray | None


def load_dense(module: DenseModule) -> DenseWeights:
    """Load the weights of a Dense module.

    Raises:
        ExportError: a tensor is missing, of another shape, or not finite.
    """
    tensors = read_tensors(module.folder)
    name = module.folder.name
    weight = tensors.get("linear.weight")
    bias = tensors.get("linear.bias")
    expected = (module.out_features, module.in_features)
    if weight is None or weight.shape != expected:
        found = "none" if weight is None else weight.shape
        raise ExportError(
            f"{name} has a linear.weight of shape {found}; expected {expected}, as its config.json states"
        )
    if module.bias and (bias is None or bias.shape != expected[:1]):
        raise ExportError(
            f"{name} has a linear.bias of shape {None if bias is None else bias.shape}; expected {expected[:1]}"
        )
    return DenseWeights(module=module, weight=weight, bias=bias if module.bias else None)


def read_tensors(folder: Path) -> dict[str, FloatArray]:
    """Read a module's safetensors as float32 arrays.

    Raises:
        ExportError: the file cannot be read, or holds a value that is not finite.
    """
    tensors: dict[str, FloatArray] = {}
    for path in weight_files(folder):
        loaded = _load_arrays(path)
        for name, array in loaded.items():
            if not np.isfinite(array).all():
                raise ExportError(not_finite(f"{folder.name}/{name}"))
        tensors |= loaded
    return tensors


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a file, by its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as tensors:
        names = tensors.keys()  # which has no iterator
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in names}


def stored_shape(folder: Path, key: str) -> tuple[int, ...] | None:
    """Shape of a weight as its file has it; names may differ in what stands before them."""
    for path in weight_files(folder):
        for name, shape in read_shapes(path).items():
            if name == key or name.endswith(f".{key}") or key.endswith(f".{name}"):
                return shape
    return None


def not_finite(name: str) -> str:
    """Message about a weight that holds NaN or infinity."""
    return (
        f"weight {name!r} holds NaN or infinity; expected finite numbers. "
        "Restore the weights from the model's origin."
    )


def _load_arrays(path: Path) -> dict[str, FloatArray]:
    from safetensors import SafetensorError

    try:
        try:
            from safetensors.torch import load_file
        except ModuleNotFoundError:  # an ONNX file is wrapped without torch
            from safetensors.numpy import load_file as load_plainly

            return {name: array.astype(np.float32) for name, array in load_plainly(path).items()}
        return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, TypeError, KeyError) as error:
        raise ExportError(f"{path.name} cannot be read: {error}. Copy the checkpoint again.") from error
