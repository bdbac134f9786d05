"""Parts of a graph as ONNX states them: inputs, outputs, and weights that lie in other files."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from embedge._contents.graph_ranks import Node
from embedge._contents.wire import MalformedError, Message, fields, numbers, part, text


class OutsideTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A weight that lies in a file beside the graph.

    Attributes:
        name: in the graph.
        dtype: TensorProto.DataType.
        dims: its shape.
        location: the file, as the graph names it.
        offset, size_bytes: where in that file.
    """

    name: str
    dtype: int
    dims: tuple[int, ...]
    location: str
    offset: int
    size_bytes: int


class ValueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output.

    Attributes:
        dtype: TensorProto.DataType, 0 where the graph does not say.
        rank: number of dimensions, None likewise.
    """

    dtype: int = 0
    rank: int | None = None


def outside_tensor(
    name: str, dtype: int, dims: list[int], bits: int, stated: dict[str, str]
) -> OutsideTensor:
    size_bytes = -(-bits // 8)
    try:
        offset, length = int(stated.get("offset", "0")), int(stated.get("length", size_bytes))
    except ValueError as error:
        raise MalformedError(f"{name!r} lies at no number of a file") from error
    if offset < 0 or length != size_bytes:
        raise MalformedError(f"{name!r} has {length} bytes at {offset}, and its shape needs {size_bytes}")
    return OutsideTensor(
        name=name,
        dtype=dtype,
        dims=tuple(dims),
        location=stated.get("location", ""),
        offset=offset,
        size_bytes=size_bytes,
    )


def entry(entry: Message) -> tuple[str, str]:
    found = {number: text(value) for number, value in fields(entry)}
    return found.get(1, ""), found.get(2, "")


def node_facts(operator: str, inputs: list[str], outputs: list[str], attributes: Sequence[Message]) -> Node:
    """What of a node tells how large its outputs are."""
    num_axes, keepdims, equation = None, True, ""
    for attribute in attributes:
        name, ints, integer, said = "", 0, 0, ""
        for number, value in fields(attribute):
            if number == 1:
                name = text(value)
            elif number == 3 and isinstance(value, int):
                integer = value
            elif number == 4 and not isinstance(value, int):
                said = bytes(value).decode("utf-8", "replace")
            elif number == 8:
                ints += len(numbers(value))
        if name == "axes":
            num_axes = ints
        elif name == "keepdims":
            keepdims = bool(integer)
        elif name == "equation":
            equation = said
    return Node(operator, inputs, outputs, num_axes, keepdims, equation)


def value_info(info: Message) -> tuple[str, ValueInfo]:
    name, dtype, rank = "", 0, None
    for number, value in fields(info):
        if number == 1:
            name = text(value)
        elif number == 2:
            for kind, content in fields(part(value)):
                if kind != 1:
                    dtype = -1  # a sequence, map, optional or sparse tensor
                    continue
                for field, said in fields(part(content)):
                    if field == 1 and isinstance(said, int):
                        dtype = said
                    elif field == 2:
                        rank = sum(1 for each, _ in fields(part(said)) if each == 1)
    return name, ValueInfo(dtype=dtype, rank=rank)
