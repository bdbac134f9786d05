"""Modules around the pooling, in numpy: for poolings that the graph does not have."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from embedge._contents.arrays import read_arrays
from embedge._rows.heads import cut_and_normalize, dense, layer_norm
from embedge.bundle import Bundle
from embedge.manifest import DenseSpec, ModuleSpec, NormalizeSpec
from embedge.types import FloatArray


class LoadedModule(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A module and its weights.

    Attributes:
        spec: as in the manifest.
        arrays: its weights by name.
    """

    spec: ModuleSpec
    arrays: dict[str, FloatArray] = msgspec.field(default_factory=dict)

    def apply(self, rows: FloatArray) -> FloatArray:
        """Apply it to float32 (…, size)."""
        spec, arrays = self.spec, self.arrays
        if isinstance(spec, NormalizeSpec):
            return cut_and_normalize(rows, None, normalize=True)
        if isinstance(spec, DenseSpec):
            return dense(
                rows,
                arrays["weight"],
                arrays.get("bias"),
                spec.activation,
                use_residual=spec.use_residual,
                residual=arrays.get("residual"),
            )
        return layer_norm(rows, arrays["weight"], arrays.get("bias"))


def load_modules(bundle: Bundle) -> tuple[LoadedModule, ...]:
    """Read the bundle's modules, in order."""
    return tuple(_load(bundle, spec) for spec in bundle.manifest.modules)


def apply_modules(modules: Sequence[LoadedModule], rows: FloatArray, *, per_token: bool) -> FloatArray:
    """Apply those before the pooling, or those after it."""
    for module in modules:
        if module.spec.per_token == per_token:
            rows = module.apply(rows)
    return rows


def _load(bundle: Bundle, spec: ModuleSpec) -> LoadedModule:
    if isinstance(spec, NormalizeSpec):
        return LoadedModule(spec=spec)
    return LoadedModule(spec=spec, arrays=read_arrays(bundle.read(spec.file), spec.file))
