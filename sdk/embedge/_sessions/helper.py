"""The helper process that runs a graph which no export wrote: what it is sent, what it sends, and what it does.

Messages are MessagePack with a length before each, never pickles: what comes back is only numbers and words, whatever
the graph made of the helper. The helper ends when its parent does, as the pipe from it is closed then.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

import msgspec
import numpy as np

_LENGTH_BYTES = 8
_MOST_BYTES = 1 << 36
_NUMBERS = "fiub"
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
        if dtype.kind not in _NUMBERS:
            raise ValueError(f"{self.dtype} is no type of numbers")
        return np.frombuffer(self.content, dtype).reshape(self.shape)


class OutsideWeight(msgspec.Struct, frozen=True, array_like=True):
    """See embedge._contents.graphs.Weight."""

    name: str
    onnx_type: int | None
    values: Array


class Load(msgspec.Struct, frozen=True, tag=True):
    """The first message: a graph and the options of Session."""

    name: str
    content: bytes
    weights: list[OutsideWeight]
    threads: int
    disabled_optimizers: list[str]
    plan_memory: bool


class Run(msgspec.Struct, frozen=True, tag=True):
    """Any later message: compute an output."""

    output: str
    feeds: dict[str, Array]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """What went wrong, and whether for want of memory."""

    message: str
    memory: bool = False


class Done(msgspec.Struct, frozen=True, tag=True):
    """The graph is loaded."""


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What an output is."""

    array: Array


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


def main(memory_bytes: int) -> None:
    """Serve the parent until it goes.

    Args:
        memory_bytes: that this process may take, where the system can hold it to that.
    """
    limit_memory(memory_bytes)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no message
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        while (content := receive(requests)) is not None:
            waiting.put(content)
        os._exit(0)  # also in the middle of a run that would never end

    threading.Thread(target=listen, daemon=True).start()
    decode = msgspec.msgpack.Decoder(Load | Run).decode
    served = _Served()
    while True:
        try:
            answer = served.answer(decode(waiting.get()))
        except MemoryError:
            answer = Failed("no memory is left", memory=True)
        except BaseException as error:
            answer = Failed(f"{type(error).__name__}: {error}"[:1000])
        send(answers, answer)


def limit_memory(memory_bytes: int) -> None:
    """Hold this process to so much memory of its own; on Linux only, as others do not keep to the limit."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


class _Given(msgspec.Struct, frozen=True, eq=False):
    """A graph as load_graph takes it."""

    name: str
    content: bytes
    outside: list[OutsideWeight]

    @contextlib.contextmanager
    def weights(self) -> Iterator[list[Any]]:
        from embedge._contents.graphs import Weight

        yield [
            Weight(name=each.name, onnx_type=each.onnx_type, array=each.values.numbers())
            for each in self.outside
        ]


class _Served:
    def __init__(self) -> None:
        self._session: Any = None

    def answer(self, request: Load | Run) -> Done | Answer | Failed:
        from embedge.errors import DeviceMemoryError, SessionError

        try:
            if isinstance(request, Load):
                self._load(request)
                return Done()
            feeds = {name: array.numbers() for name, array in request.feeds.items()}
            array = np.asarray(self._session.run([request.output], feeds)[0])
            if array.dtype.kind not in _NUMBERS:  # bytes of others are places in memory
                return Failed(f"{request.output} is {array.dtype} of shape {array.shape}; expected numbers")
            return Answer(Array.of(array))
        except DeviceMemoryError as error:
            return Failed(str(error), memory=True)
        except SessionError as error:
            return Failed(str(error))
        except Exception as error:  # onnxruntime raises many unrelated classes
            from embedge._sessions.loading import OUT_OF_MEMORY
            from embedge._sessions.onnxruntime import in_words

            message = in_words(error)
            return Failed(message, memory=bool(OUT_OF_MEMORY.search(message)))

    def _load(self, asked: Load) -> None:
        from embedge._sessions.devices import find_devices
        from embedge._sessions.loading import load_graph

        self._session = load_graph(
            _Given(asked.name, asked.content, asked.weights),
            find_devices("cpu")[0],
            asked.threads,
            disabled_optimizers=asked.disabled_optimizers,
            device_memory_bytes=None,
            plan_memory=asked.plan_memory,
            capture=False,
        )
