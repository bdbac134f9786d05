"""safetensors files as arrays, and the modules whose weights lie in them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray
from embedge_export.source.modules import LayerNorm, Weighted
from embedge_export.source.repository import weight_files

_HALF = "BF16"
_NUMPY = ("F64", "F32", "F16", _HALF, "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
"""How safetensors names what a tensor may be stored as."""


class LoadedModule(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A module with its weights.

    Attributes:
        module: what its config states.
        weight: float32 of shape (out_features, in_features), or (size,) of a LayerNorm.
        bias: float32 of shape (out_features,) or (size,), or None.
        residual: float32 of shape (out_features, in_features), or None.
    """

    module: Weighted
    weight: FloatArray
    bias: FloatArray | None = None
    residual: FloatArray | None = None


def load_module(module: Weighted) -> LoadedModule:
    """Load the weights of a module.

    Raises:
        ExportError: a tensor is missing, of another shape, or not finite.
    """
    if isinstance(module, LayerNorm):
        tensors = _Tensors(module.folder, ("norm.weight", "norm.bias"))
        weight, bias = (tensors.get(name, (module.size,)) for name in ("norm.weight", "norm.bias"))
        return LoadedModule(module=module, weight=weight, bias=bias)
    of_weight, of_bias = module.weight_names
    tensors = _Tensors(module.folder, (of_weight, of_bias, "residual.weight"))
    shape = (module.out_features, module.in_features)
    return LoadedModule(
        module=module,
        weight=tensors.get(of_weight, shape),
        bias=tensors.get(of_bias, shape[:1]) if module.bias else None,
        residual=tensors.get("residual.weight", shape) if module.has_residual_weight else None,
    )


class _Tensors:
    """Some tensors of a folder; they may have a prefix in the file."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self._folder = folder
        self._found: dict[str, FloatArray] = {}
        for path in weight_files(folder):
            stored = read_shapes(path)
            wanted = {
                name: full for name in names for full in stored if full == name or full.endswith(f".{name}")
            }
            if wanted:
                arrays = _load_arrays(path, tuple(wanted.values()))
                self._found |= {name: arrays[full] for name, full in wanted.items()}

    def get(self, name: str, expected: tuple[int, ...]) -> FloatArray:
        array = self._found.get(name)
        if array is None or array.shape != expected:
            raise ExportError(
                f"{self._folder.name} has a {name} of shape {'none' if array is None else array.shape}; "
                f"expected {expected}, as its config.json states"
            )
        if not np.isfinite(array).all():
            raise ExportError(not_finite(f"{self._folder.name}/{name}"))
        return array


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


def _load_arrays(path: Path, names: tuple[str, ...] | None = None) -> dict[str, FloatArray]:
    """Tensors of a file as float32; all of them where no names are given."""
    from safetensors import SafetensorError, deserialize, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            wanted = list(tensors.keys()) if names is None else names
            dtypes = {name: tensors.get_slice(name).get_dtype() for name in wanted}
            unknown = next((name for name in wanted if dtypes[name] not in _NUMPY), None)
            if unknown is not None:
                raise ExportError(
                    f"weight {unknown!r} in {path.name} is stored as {dtypes[unknown]}; expected one of "
                    f"{', '.join(_NUMPY)}. Save it as float32."
                )
            made = {
                name: tensors.get_tensor(name).astype(np.float32) for name in wanted if dtypes[name] != _HALF
            }
        if len(made) < len(wanted):  # numpy has no bfloat16: it is the upper half of a float32
            for name, entry in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
                if name in wanted and name not in made:
                    halves = np.frombuffer(entry["data"], np.uint16).astype(np.uint32) << np.uint32(16)
                    made[name] = halves.view(np.float32).reshape(entry["shape"])
        return made
    except (SafetensorError, OSError, TypeError, KeyError) as error:
        raise ExportError(f"{path.name} cannot be read: {error}. Copy the checkpoint again.") from error
