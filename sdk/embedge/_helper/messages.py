"""What goes to and from a helper process: MessagePack with a length before each, never pickles.

What comes back is only numbers and words, whatever a file made of the helper.
"""

from __future__ import annotations

from typing import IO, Any

import msgspec
import numpy as np

_LENGTH_BYTES = 8
_MOST_BYTES = 1 << 36
NUMBERS = "fiub"
"""numpy's kinds of numbers."""


class Array(msgspec.Struct, frozen=True, array_like=True):
    """Numbers: numpy's name of their type, their shape, and their bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    @classmethod
    def of(cls, array: np.ndarray[Any, Any]) -> Array:
        """From an array."""
        return cls(array.dtype.str, array.shape, array.tobytes())

    def numbers(self) -> np.ndarray[Any, Any]:
        """As an array.

        Raises:
            ValueError, TypeError: shape, type and content do not belong together.
        """
        dtype = np.dtype(self.dtype)
        if dtype.kind not in NUMBERS:
            raise ValueError(f"{self.dtype} is no type of numbers")
        return np.frombuffer(self.content, dtype).reshape(self.shape)


class Failed(msgspec.Struct, frozen=True, tag=True):
    """What went wrong, and whether for want of memory."""

    message: str
    memory: bool = False


class Done(msgspec.Struct, frozen=True, tag=True):
    """It is loaded."""


def send(stream: IO[bytes], message: msgspec.Struct) -> None:
    """Write a message.

    Raises:
        OSError: the other side has gone.
    """
    content = msgspec.msgpack.encode(message)
    for part in (len(content).to_bytes(_LENGTH_BYTES, "little"), content):
        left = memoryview(part)
        while left:
            left = left[stream.write(left) :]
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read a message; None where the other side has gone, or sends what is none."""
    length = _read(stream, _LENGTH_BYTES)
    num_bytes = int.from_bytes(length, "little")
    if len(length) < _LENGTH_BYTES or num_bytes > _MOST_BYTES:
        return None
    content = _read(stream, num_bytes)
    return content if len(content) == num_bytes else None


def _read(stream: IO[bytes], num_bytes: int) -> bytes:
    parts, left = [], num_bytes
    # what is only said to come takes no memory
    while left and (part := stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
