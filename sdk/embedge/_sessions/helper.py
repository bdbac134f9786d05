"""A graph that no export wrote, as its helper process loads and runs it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Container, Iterator
from typing import Any

import msgspec
import numpy as np

from embedge._helper.messages import NUMBERS, Array, Done, Failed


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


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What an output is."""

    array: Array


REQUESTS = Load | Run


class _Given(msgspec.Struct, frozen=True, eq=False):
    """A graph as load_graph takes it."""

    name: str
    content: bytes
    outside: list[OutsideWeight]
    opens: threading.Event = msgspec.field(default_factory=threading.Event)

    @contextlib.contextmanager
    def weights(self, *, known_tables: Container[str] | None = None) -> Iterator[list[Any]]:  # noqa: ARG002
        from embedge._contents.graphs import Weight

        yield [
            Weight(name=each.name, onnx_type=each.onnx_type, array=each.values.numbers())
            for each in self.outside
        ]


class Served:
    """The graph of the first message."""

    def __init__(self) -> None:
        self._session: Any = None

    def answer(self, request: Load | Run) -> Done | Answer | Failed:
        """What came of a message."""
        from embedge.errors import DeviceMemoryError, SessionError

        try:
            if isinstance(request, Load):
                self._load(request)
                return Done()
            feeds = {name: array.numbers() for name, array in request.feeds.items()}
            array = np.asarray(self._session.run([request.output], feeds)[0])
            if array.dtype.kind not in NUMBERS:  # bytes of others are places in memory
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
        ).session
