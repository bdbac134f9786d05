"""Weights by name, read one at a time: from safetensors files, or drawn from a seed."""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray
from embedge_export.families.structure import Tensor

_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_SPREAD = 0.02
_Entry: TypeAlias = tuple[mmap.mmap, int, dict[str, Any]]
"""A file, where its data starts, and what its header says of one weight."""


class Weights(Protocol):
    """Where a graph's weights come from."""

    def read(self, tensor: Tensor) -> FloatArray:
        """The weight, or the part of it that `tensor` names, as float32.

        Raises:
            ExportError: it is missing, or of another shape.
        """
        ...

    def has(self, tensor: Tensor) -> bool:
        """Whether there is a weight of this name and shape."""
        ...


def _part(tensor: Tensor, array: Any) -> FloatArray:
    rows = array if tensor.rows is None else array[tensor.rows[0] : tensor.rows[1]]
    if tensor.share is not None:
        index, parts, count = tensor.share
        rows = array.reshape(-1, parts, count, *tensor.shape[1:])[:, index].reshape(tensor.size)
    part: FloatArray = np.ascontiguousarray(rows, np.float32)
    return part + np.float32(tensor.offset) if tensor.offset else part


def _renamed(name: str, renames: Mapping[str, str]) -> str:
    for old, new in renames.items():
        name = name.replace(old, new)
    return name


class StoredWeights:
    """The weights of safetensors files, mapped into memory: only what is read is loaded.

    Args:
        paths: the files of one checkpoint.
        prefixes: what may stand before a name, as heads' checkpoints store "bert.encoder…".
        renames: what may stand in a name, and what it is called here.

    Raises:
        ExportError: two weights have one name once it is without prefix, in new words.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        prefixes: Iterable[str] = (),
        renames: Mapping[str, str] | None = None,
    ) -> None:
        prefixes = tuple(prefixes)
        self._prefixes = ("", *prefixes)
        stored: dict[str, _Entry] = {}
        for path in paths:
            with path.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            (size,) = struct.unpack("<Q", mapped[:8])
            for name, entry in json.loads(mapped[8 : 8 + size]).items():
                if name != "__metadata__":
                    stored[name] = (mapped, 8 + size, entry)
        renamed: dict[str, _Entry] = {}
        called: dict[str, str] = {}
        for name, entry in stored.items():
            new = _renamed(name, renames or {})
            bare = next((new.removeprefix(prefix) for prefix in prefixes if new.startswith(prefix)), new)
            if bare in called:
                raise ExportError(
                    f"the weights hold {called[bare]!r} and {name!r}, two weights for {bare!r}; expected one. "
                    "Restore the file from the model's origin."
                )
            called[bare] = name
            renamed[new] = entry
        self._entries = renamed | {name: stored[name] for name in stored if name in renamed}

    def _find(self, name: str) -> _Entry | None:
        return next(
            (self._entries[prefix + name] for prefix in self._prefixes if prefix + name in self._entries),
            None,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All weights, under the names that they are found by."""
        named: dict[str, tuple[int, ...]] = {}
        for full, entry in self._entries.items():
            prefix = next(
                (each for each in reversed(self._prefixes) if full.startswith(each)), ""
            )  # the first one is none
            named.setdefault(full.removeprefix(prefix), tuple(entry[2]["shape"]))
        return named

    def has(self, tensor: Tensor) -> bool:
        """See Weights.has."""
        found = self._find(tensor.name)
        return found is not None and tuple(found[2]["shape"]) == tensor.shape

    def read(self, tensor: Tensor) -> FloatArray:
        """See Weights.read."""
        found = self._find(tensor.name)
        if found is None:
            raise ExportError(
                f"the weights lack {tensor.name!r}, which config.json asks for. "
                "Restore the files from the model's origin."
            )
        mapped, start, entry = found
        shape = tuple(entry["shape"])
        if shape != tensor.shape:
            raise ExportError(
                f"weight {tensor.name!r} has shape {shape}; config.json asks for {tensor.shape}. "
                "Restore config.json or the weights from the model's origin."
            )
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ExportError(
                f"weight {tensor.name!r} is stored as {entry['dtype']}; expected one of {', '.join(_DTYPES)}"
            )
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(mapped, dtype, count, start + entry["data_offsets"][0]).reshape(shape)
        if entry["dtype"] == "BF16":
            # bfloat16 is the upper half of a float32
            array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return _part(tensor, array)


class SeededWeights:
    """Weights drawn from a seed and their names, for measurements without a checkpoint.

    Args:
        seed: same seed, same weights.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def has(self, tensor: Tensor) -> bool:  # noqa: ARG002  # all can be drawn
        """See Weights.has."""
        return True

    def read(self, tensor: Tensor) -> FloatArray:
        """See Weights.read."""
        generator = np.random.default_rng([self._seed, zlib.crc32(tensor.name.encode())])
        drawn = generator.standard_normal(tensor.shape, np.float32) * np.float32(_SPREAD)
        if len(tensor.shape) == 1 and tensor.name.endswith("weight") and not tensor.offset:
            drawn += 1  # a norm's weight
        return _part(tensor, drawn)
