"""Any number of prompts in bounded memory: window by window, the next computed while one is consumed."""

from __future__ import annotations

import collections
import contextvars
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import msgspec

from embedge._calls.in_asyncio import computed
from embedge._calls.naming import naming
from embedge._calls.options import CallOptions, EndOptions, PooledOutput, as_count
from embedge._calls.request import Call
from embedge._calls.verbs import Verbs
from embedge._text.prompts import check_no_table, parse_prompt
from embedge._workers import pipeline
from embedge.errors import ParamsError, PromptError
from embedge.params import PoolingParams
from embedge.types import ParsedPrompt, PromptInput, Task

Calling: TypeAlias = Callable[[EndOptions], AbstractContextManager[Verbs]]
"""Gives the loaded model around a part of the stream, or raises once it is closed."""
_Window: TypeAlias = tuple[list[ParsedPrompt], int]
"""Prompts, and the position of the first in the stream."""
_WITHIN = EndOptions()
_UNDER_WAY = 2


class _Windows(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is done with each window of a stream.

    Attributes:
        calling: see Calling.
        task: what is asked.
        options: of every window.
        size: prompts of a window.
    """

    calling: Calling
    task: Task
    options: CallOptions
    size: int

    def prepare(self, taken: _Window) -> Call:
        """Tokenise a window."""
        some, first = taken
        with self.calling(_WITHIN) as verbs, self._naming(first):
            return verbs.of(self.options.tower).prepare(some, self.task, self.options, first_id=first)

    def compute(self, call: Call) -> Sequence[PooledOutput]:
        """Answer a window."""
        with self.calling(_WITHIN) as verbs, self._naming(call.first_id):
            return verbs.of(self.options.tower).pooled(call, self.options)

    def _naming(self, first: int) -> AbstractContextManager[None]:
        return naming(position=lambda index: first + index)

    def answer(self, taken: _Window) -> Sequence[PooledOutput]:
        """Both."""
        return self.compute(self.prepare(taken))


def stream(
    calling: Calling, prompts: Iterable[PromptInput], options: CallOptions, window: Any
) -> Iterator[PooledOutput]:
    """Pool prompts window by window; close the iterator to stop early.

    Args:
        calling: see Calling.
        prompts: any iterable; taken in the consumer's thread.
        options: of every window.
        window: prompts that are sorted by length, batched and held at a time.

    Raises:
        ParamsError: a window that is no int >= 1, or parameters that differ from prompt to prompt.
        PromptError: prompts cannot be iterated over.
        TaskNotSupportedError: the bundle does not have the task.
    """
    windows = _windows(calling, options, window)
    taken = _taken(_iterated(prompts), windows.size)
    # the stream has a scope of its own, and its consumer another one
    context = contextvars.copy_context()
    context.run(options.scope().__enter__)
    return _flat(pipeline(taken, windows.prepare, windows.compute), context)


async def astream(
    calling: Calling,
    prompts: Iterable[PromptInput] | AsyncIterable[PromptInput],
    options: CallOptions,
    window: Any,
) -> AsyncIterator[PooledOutput]:
    """The same in asyncio; prompts are taken in the event loop, errors come with the first output."""
    import asyncio

    windows = _windows(calling, options, window)
    context = contextvars.copy_context()
    context.run(options.scope().__enter__)
    waiting: collections.deque[asyncio.Task[Sequence[PooledOutput]]] = collections.deque()
    try:
        async for taken in _taken_in_asyncio(prompts, windows.size):
            answered = computed(partial(windows.answer, taken), large=True)
            waiting.append(asyncio.create_task(answered, context=context))
            if len(waiting) == _UNDER_WAY:
                for output in await waiting[0]:
                    yield output
                waiting.popleft()
        while waiting:
            for output in await waiting[0]:
                yield output
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _windows(calling: Calling, options: CallOptions, window: Any) -> _Windows:
    size = as_count(window, "window")
    if not isinstance(options.pooling_params, PoolingParams | None):
        raise ParamsError("stream takes one PoolingParams for all prompts, or None")
    with calling(_WITHIN) as verbs:
        return _Windows(
            calling=calling, task=verbs.of(options.tower).task(options), options=options, size=size
        )


def _iterated(prompts: Any) -> Iterator[PromptInput]:
    if isinstance(prompts, (str, dict)):
        return iter([prompts])
    check_no_table(prompts)
    try:
        return iter(prompts)
    except Exception as error:  # the caller's own type
        raise PromptError(
            f"prompts is a {type(prompts).__name__}; expected an iterable of prompts, as encode takes them"
        ) from error


def _taken(prompts: Iterator[PromptInput], size: int) -> Iterator[_Window]:
    first = 0
    while some := [parse_prompt(prompt, first + i) for i, prompt in enumerate(islice(prompts, size))]:
        yield some, first
        first += len(some)


async def _taken_in_asyncio(prompts: Any, size: int) -> AsyncIterator[_Window]:
    if not hasattr(prompts, "__aiter__"):
        for taken in _taken(_iterated(prompts), size):
            yield taken
        return
    first, some = 0, list[ParsedPrompt]()
    async for prompt in prompts:
        some.append(parse_prompt(prompt, first + len(some)))
        if len(some) == size:
            yield some, first
            first, some = first + size, []
    if some:
        yield some, first


def _flat(
    answered: Generator[Sequence[PooledOutput], None, None], context: contextvars.Context
) -> Generator[PooledOutput, None, None]:
    try:
        while (answer := context.run(next, answered, None)) is not None:
            yield from answer
    finally:
        context.run(answered.close)
