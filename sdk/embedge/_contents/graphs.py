"""A graph with its weights, from files that are open: what a session is made of, now or later."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._contents.graph import GraphFacts, read_graph
from embedge._contents.graph_parts import OutsideTensor
from embedge._contents.pinned import PinnedFile
from embedge.errors import BundleError

_BFLOAT16 = 16
_DTYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
    13: "<u8", _BFLOAT16: "<u2",
}  # fmt: skip
"""numpy's types by TensorProto.DataType; bfloat16 by its bits."""


class Weight(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A weight that lies outside of the graph.

    Attributes:
        name: in the graph.
        onnx_type: TensorProto.DataType where numpy has none of its own, else None.
        array: its values.
        place: the file that holds it, and its first byte there; None where that is not known.
    """

    name: str
    onnx_type: int | None
    array: npt.NDArray[Any]
    place: tuple[str, int] | None = None


class PinnedGraph:
    """A graph whose files were opened once; sessions of it are made at any time, and all of the same numbers.

    Args:
        file: the .onnx file.
        files: what else may hold its weights, by path in the bundle.

    Attributes:
        name: of the file, for messages.
        content: of the file.
        facts: what it holds.

    Raises:
        BundleError: it is no graph, or has weights that lie elsewhere.
        IntegrityError: it was altered.
    """

    def __init__(self, file: PinnedFile, files: Mapping[str, PinnedFile]) -> None:
        self.name = posixpath.basename(file.name)
        self.content = file.read()
        self.facts: GraphFacts = read_graph(self.content, file.name)
        self._outside: dict[str, list[OutsideTensor]] = {}
        folder = posixpath.dirname(file.name)
        for tensor in self.facts.outside:
            self._outside.setdefault(posixpath.join(folder, tensor.location), []).append(tensor)
        for name, tensors in self._outside.items():
            if name not in files:
                raise BundleError(
                    f"{file.name} keeps weights in {tensors[0].location!r}, which the manifest does not list among the "
                    f"files of this variant. Export the model again."
                )
            _check_places(tensors, files[name], file.name)
        self._files = files

    @contextlib.contextmanager
    def weights(self) -> Iterator[list[Weight]]:
        """The weights outside of the graph, read anew; their hashes are waited for at the end.

        Raises:
            IntegrityError: a file was altered; raised in place of whatever the block raises.
        """
        found: list[Weight] = []
        confirms = []
        for name, tensors in self._outside.items():
            content, confirm = self._files[name].read_ahead()
            confirms.append(confirm)
            found += [_weight(content, name, tensor) for tensor in tensors]
        try:
            yield found
        finally:
            found.clear()
            for confirm in confirms:
                confirm()


def _check_places(tensors: list[OutsideTensor], data: PinnedFile, graph: str) -> None:
    for tensor in tensors:
        if tensor.dtype not in _DTYPES:
            raise BundleError(
                f"{graph} keeps {tensor.name!r} in {data.name}, and its type {tensor.dtype} cannot lie outside of a "
                "graph. Export the model again."
            )
        if tensor.offset + tensor.size_bytes > data.size_bytes:
            raise BundleError(
                f"{graph} expects {tensor.name!r} at bytes {tensor.offset} to {tensor.offset + tensor.size_bytes} of "
                f"{data.name}, which has {data.size_bytes}. Export the model again."
            )


def _weight(content: npt.NDArray[np.uint8], file: str, tensor: OutsideTensor) -> Weight:
    values = content[tensor.offset : tensor.offset + tensor.size_bytes]
    if tensor.offset % 8:  # a view of larger numbers has to begin at one
        values = values.copy()
    return Weight(
        name=tensor.name,
        onnx_type=_BFLOAT16 if tensor.dtype == _BFLOAT16 else None,
        array=values.view(_DTYPES[tensor.dtype]).reshape(tensor.dims),
        place=(file, tensor.offset),
    )
