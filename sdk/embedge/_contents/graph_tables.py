"""A graph whose tables are inputs, so that a session reads them where they are.

onnxruntime copies every weight that it is given when it opens a graph, though it rearranges those of products alone.
Rows of a table are only looked up, and tables of words are half of a small model and most of a multilingual one:
384 of 470 MB. An input is read where it is, by all sessions. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from embedge._contents.graphs import number_of
from embedge._contents.wire import Message, field, fields, part, text

_GRAPH = 7
_INITIALIZER, _INPUT = 5, 11


def with_inputs(content: bytes, tables: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of a graph in which some weights are inputs.

    Args:
        content: of an .onnx file that read_graph takes.
        tables: values of these weights by their names.
    """

    def rewritten(graph: Message) -> bytes:
        kept, listed = [], set()
        for number, value in fields(graph):
            if number == _INITIALIZER and _name(part(value), 8) in tables:
                continue
            if number == _INPUT:
                listed.add(_name(part(value), 1))
            kept.append(field(number, value))
        # older graphs list their weights among the inputs, too
        made = (
            value_info(name, number_of(table.dtype), table.shape)
            for name, table in tables.items()
            if name not in listed
        )
        return b"".join((*kept, *(field(_INPUT, info) for info in made)))

    return b"".join(
        field(number, rewritten(part(value)) if number == _GRAPH else value)
        for number, value in fields(memoryview(content))
    )


def _name(message: Message, wanted: int) -> str:
    return next((text(value) for number, value in fields(message) if number == wanted), "")


def value_info(name: str, dtype: int, dims: Sequence[str | int]) -> bytes:
    """A ValueInfoProto of a tensor.

    Args:
        name: of the input or output.
        dtype: TensorProto.DataType.
        dims: its shape: numbers, and names of what differs from run to run.
    """
    # Dimension: dim_value is field 1, dim_param field 2
    shape = b"".join(field(1, field(2 if isinstance(dim, str) else 1, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, dtype) + field(2, shape)))
