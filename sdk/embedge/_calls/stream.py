"""Any number of prompts in bounded memory: window by window, the next computed while one is consumed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

from embedge._calls.options import CallOptions, PooledOutput
from embedge._calls.progress import StopAt
from embedge._calls.request import Call
from embedge._calls.verbs import Verbs
from embedge._text.prompts import parse_prompt
from embedge._workers import pipeline
from embedge.errors import ParamsError, PromptError
from embedge.params import PoolingParams
from embedge.types import ParsedPrompt, PromptInput

_Window: TypeAlias = tuple[list[ParsedPrompt], int]
"""Prompts, and the position of the first in the stream."""


def stream(
    opened: Callable[[], Verbs], prompts: Iterable[PromptInput], options: CallOptions, window: Any
) -> Iterator[PooledOutput]:
    """Pool prompts window by window; close the iterator to stop early.

    Args:
        opened: gives the loaded model, or raises once it is closed.
        prompts: any iterable; taken in the consumer's thread.
        options: of every window.
        window: prompts that are sorted by length, batched and held at a time.

    Raises:
        ParamsError: a window that is no int >= 1, or parameters that differ from prompt to prompt.
        TaskNotSupportedError: the bundle does not have the task.
    """
    if type(window) is not int or window < 1:
        raise ParamsError(f"window={window!r} is out of range; expected an int >= 1")
    if not isinstance(options.pooling_params, PoolingParams | None):
        raise ParamsError("stream takes one PoolingParams for all prompts, or None")
    task = opened().task(options)

    def prepare(taken: _Window) -> Call:
        some, first = taken
        try:
            return opened().prepare(some, task, options)
        except PromptError as error:
            index = first + (error.index or 0)
            raise PromptError(f"prompt {index} of the stream: in its window, {error}", index=index) from error

    def compute(call: Call, stopped: threading.Event) -> Sequence[PooledOutput]:
        return opened().pooled(call, StopAt(stopped))

    return _flat(
        pipeline(_windows(iter([prompts] if isinstance(prompts, str) else prompts), window), prepare, compute)
    )


def _windows(prompts: Iterator[PromptInput], size: int) -> Iterator[_Window]:
    first = 0
    while some := [parse_prompt(prompt, first + i) for i, prompt in enumerate(islice(prompts, size))]:
        yield some, first
        first += len(some)


def _flat(answered: Generator[Sequence[PooledOutput], None, None]) -> Generator[PooledOutput, None, None]:
    with contextlib.closing(answered) as answers:
        for answer in answers:
            yield from answer
