"""How far an export is: its stages, and the share of each that is done, told to a listener."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeAlias, TypeVar

import msgspec

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")
_Args = ParamSpec("_Args")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Where an export is.

    Attributes:
        stage: name of the stage; "done" stands for the whole export.
        elapsed_s: since the stage began.
        share: of the stage that is done, from 0 to 1; None where that cannot be known.
        finished: the stage is over, and `detail` is one line about its outcome.
    """

    stage: str
    elapsed_s: float
    share: float | None = None
    finished: bool = False
    detail: str = ""


Listener: TypeAlias = Callable[[Step], None]
"""Called when a stage begins, whenever it knows how far it is, and when it is finished."""


class _Span(msgspec.Struct, frozen=True):
    """The part of the running stage that the code below it stands for, from `start` to `stop`."""

    tell: Callable[[float], None]
    start: float = 0.0
    stop: float = 1.0

    def at(self, share: float) -> float:
        return self.start + (self.stop - self.start) * share


_SPAN: ContextVar[_Span | None] = ContextVar("embedge_export_span", default=None)


class Stages:
    """Times the stages and tells about each."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self._start_s = time.perf_counter()

    def run(
        self,
        name: str,
        stage: Callable[_Args, tuple[_Value, str]],
        *args: _Args.args,
        **kwargs: _Args.kwargs,
    ) -> _Value:
        """Run a stage.

        Args:
            name: what it is called.
            stage: gives its outcome, and one line about it; by `tracked` and `PromptBar` it says how far it is.
            *args: its arguments.
            **kwargs: its arguments by name.

        Returns:
            The outcome.
        """
        start_s = time.perf_counter()
        reached = 0.0

        def step(**facts: Any) -> None:
            if self._listener is not None:
                self._listener(Step(stage=name, elapsed_s=time.perf_counter() - start_s, **facts))

        def tell(share: float) -> None:
            nonlocal reached
            if share > reached:  # never backwards
                reached = share
                step(share=share)

        step()
        token = _SPAN.set(_Span(tell))
        try:
            value, detail = stage(*args, **kwargs)
        finally:
            _SPAN.reset(token)
        step(share=1.0, finished=True, detail=detail)
        return value

    def finish(self, detail: str) -> None:
        """Tell about the end, with the time of the whole export."""
        if self._listener is not None:
            elapsed_s = time.perf_counter() - self._start_s
            self._listener(Step(stage="done", elapsed_s=elapsed_s, share=1.0, finished=True, detail=detail))


@contextlib.contextmanager
def part(start: float, stop: float) -> Iterator[None]:
    """What runs in this block is one part of the running stage, from one share to another."""
    span = _SPAN.get()
    if span is None:
        yield
        return
    token = _SPAN.set(_Span(span.tell, span.at(start), span.at(stop)))
    try:
        yield
    finally:
        _SPAN.reset(token)
    span.tell(span.at(stop))


def tracked(items: Sequence[_Item]) -> Iterator[_Item]:
    """Go through items and tell after each how far the running stage is; loops within loops share the parts."""
    for index, item in enumerate(items):
        with part(index / len(items), (index + 1) / len(items)):
            yield item


def teller() -> Callable[[float], None]:
    """What tells the running stage, from any thread, how much of it or of the part that runs now is done."""
    span = _SPAN.get()
    if span is None:
        return lambda share: None  # noqa: ARG005
    running = span
    return lambda share: running.tell(running.at(min(share, 1.0)))


class PromptBar:
    """Takes the place of tqdm in a call of the SDK, and tells the running stage instead."""

    def __init__(self, *, total: int, desc: str) -> None:
        del desc
        self._tell = teller()
        self._total = total
        self._done = 0

    def update(self, count: int) -> None:
        """Add finished prompts."""
        self._done += count
        if self._total:
            self._tell(self._done / self._total)

    def close(self) -> None:
        """Nothing is drawn, so nothing is left to close."""
