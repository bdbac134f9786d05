"""Protocol buffers as they lie in a file: fields of one message, nothing copied; and a field written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Message: TypeAlias = memoryview
"""Content of one message."""

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10


class MalformedError(ValueError):
    """Bytes that are no message."""


def fields(message: Message) -> Iterator[tuple[int, int | Message]]:
    """Numbers of a message's fields and what they hold: whole numbers, or bytes.

    Raises:
        MalformedError: it ends within a field, or has one of a kind that nothing writes any more.
    """
    position, end = 0, len(message)
    while position < end:
        key, position = varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = varint(message, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise MalformedError(f"it has a field of wire type {kind}")
        if length > end - position:
            raise MalformedError("it ends within a field")
        yield number, message[position : position + length]
        position += length


def varint(message: Message, position: int) -> tuple[int, int]:
    """A whole number of up to 64 bits, and where it ends.

    Raises:
        MalformedError: it does not end.
    """
    value = shift = 0
    for offset in range(_LONGEST_VARINT):
        if position + offset >= len(message):
            raise MalformedError("it ends within a number")
        byte = message[position + offset]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + offset + 1
        shift += 7
    raise MalformedError("a number has no end")


def field(number: int, value: int | str | bytes | Message) -> bytes:
    """A field as it lies in a message.

    Args:
        number: of the field.
        value: a whole number that is not negative, or a message, text or bytes.
    """
    if isinstance(value, int):
        return _varint_bytes(number << 3 | _VARINT) + _varint_bytes(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint_bytes(number << 3 | _BYTES) + _varint_bytes(len(content)) + content


def _varint_bytes(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def text(value: int | Message) -> str:
    """A field that holds text.

    Raises:
        MalformedError: it holds a number, or bytes that are no UTF-8.
    """
    try:
        return str(part(value), "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("a name is no UTF-8") from error


def part(value: int | Message) -> Message:
    """A field that holds a message or bytes.

    Raises:
        MalformedError: it holds a number.
    """
    if isinstance(value, int):
        raise MalformedError("a field holds a number in place of bytes")
    return value


def numbers(value: int | Message) -> list[int]:
    """One number of a repeated field, or all of them where they are packed.

    Raises:
        MalformedError: the last one does not end.
    """
    if isinstance(value, int):
        return [value]
    found, position = [], 0
    while position < len(value):
        number, position = varint(value, position)
        found.append(number)
    return found
