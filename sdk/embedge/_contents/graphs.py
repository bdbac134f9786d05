"""A graph with its weights, from files that are open: what a session is made of, now or later."""

from __future__ import annotations

import bisect
import contextlib
import posixpath
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._contents.graph import GraphFacts, read_graph
from embedge._contents.graph_parts import OutsideTensor
from embedge._contents.pinned import PinnedFile
from embedge.errors import BundleError

_BFLOAT16 = 16
_LARGE_BYTES = 1 << 20
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
        apart: whether it is a table whose memory holds nothing else, so that it may be kept without the others.
    """

    name: str
    onnx_type: int | None
    array: npt.NDArray[Any]
    place: tuple[str, int] | None = None
    apart: bool = False


class PinnedGraph:
    """A graph whose files were opened once; sessions of it are made at any time, and all of the same numbers.

    Args:
        file: the .onnx file.
        files: what else may hold its weights, by path in the bundle.
        opens: see below; graphs of one load may have the same.

    Attributes:
        opens: set when onnxruntime opens it, and its weights are read.
        name: of the file, for messages.
        content: of the file.
        facts: what it holds.

    Raises:
        BundleError: it is no graph, or has weights that lie elsewhere.
        IntegrityError: it was altered.
    """

    def __init__(
        self, file: PinnedFile, files: Mapping[str, PinnedFile], opens: threading.Event | None = None
    ) -> None:
        self.opens = threading.Event() if opens is None else opens
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
    def weights(self, *, known_tables: Container[str] | None = None) -> Iterator[list[Weight]]:
        """The weights outside of the graph, read anew; their hashes are waited for at the end.

        Args:
            known_tables: give large tables, of which rows are looked up and nothing else, memory of their own; these
                the caller has from before: they are hashed and not given. None: tables lie with what is beside them.

        Raises:
            IntegrityError: a file was altered; raised in place of whatever the block raises.
        """
        known = () if known_tables is None else known_tables
        found: list[Weight] = []
        confirms = []
        for name, tensors in self._outside.items():
            apart = [] if known_tables is None else self._tables(tensors)
            ends = {end for table in apart for end in (table.offset, table.offset + table.size_bytes)}
            cuts = sorted(ends - {0, self._files[name].size_bytes})
            held = [table for table in apart if table.name in known]
            unread = {bisect.bisect_right(cuts, table.offset) for table in held}
            pieces, confirm = self._files[name].read_ahead(cuts, unread=unread)
            confirms.append(confirm)
            for tensor in tensors:
                if tensor in held:
                    continue
                number = bisect.bisect_right(cuts, tensor.offset)
                first = cuts[number - 1] if number else 0
                found.append(_weight(pieces[number], first, name, tensor, apart=tensor in apart))
        try:
            yield found
        finally:
            found.clear()
            for confirm in confirms:
                confirm()

    def _tables(self, tensors: Sequence[OutsideTensor]) -> list[OutsideTensor]:
        """Large tables of a file that share no byte of it with another tensor."""

        def alone(table: OutsideTensor) -> bool:
            return not any(
                each is not table
                and each.offset < table.offset + table.size_bytes
                and table.offset < each.offset + each.size_bytes
                for each in tensors
            )

        return [table for table in large_tables(self.facts) if table in tensors and alone(table)]


def large_tables(facts: GraphFacts) -> list[OutsideTensor]:
    """Large weights in other files of which rows are looked up and nothing else, of a type that numpy has."""
    return [
        tensor
        for tensor in facts.outside
        if tensor.name in facts.looked_up and tensor.size_bytes >= _LARGE_BYTES and tensor.dtype != _BFLOAT16
    ]


def table_bytes(facts: GraphFacts) -> int:
    """Of all such tables."""
    return sum(table.size_bytes for table in large_tables(facts))


def copied_bytes(facts: GraphFacts) -> int:
    """Of all weights in other files but such tables."""
    return sum(tensor.size_bytes for tensor in facts.outside) - table_bytes(facts)


def number_of(dtype: np.dtype[Any]) -> int:
    """The TensorProto.DataType of one of numpy's types, which a weight has."""
    return next(number for number, name in _DTYPES.items() if np.dtype(name) == dtype)


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


def _weight(
    piece: npt.NDArray[np.uint8], first: int, file: str, tensor: OutsideTensor, *, apart: bool
) -> Weight:
    """A weight of a piece of a file, which begins at its byte `first`."""
    values = piece[tensor.offset - first :][: tensor.size_bytes]
    if (tensor.offset - first) % 8:  # a view of larger numbers has to begin at one
        values = values.copy()
    return Weight(
        name=tensor.name,
        onnx_type=_BFLOAT16 if tensor.dtype == _BFLOAT16 else None,
        array=values.view(_DTYPES[tensor.dtype]).reshape(tensor.dims),
        place=(file, tensor.offset),
        apart=apart,
    )
