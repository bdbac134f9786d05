"""The arguments of a call, checked as far as that needs no bundle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from threading import Event
from typing import Any, TypeAlias, get_args

import msgspec

from embedge._cancelling import CancelScope
from embedge._plain import plain
from embedge.errors import ParamsError
from embedge.outputs import PoolingOutput, PoolingRequestOutput
from embedge.params import PoolingParams
from embedge.types import LongText, PairTruncation, PromptInput, Side, Task

Params: TypeAlias = PoolingParams | Sequence[PoolingParams] | None
Prompts: TypeAlias = PromptInput | Iterable[PromptInput]
UseTqdm: TypeAlias = bool | Callable[..., Any]
PooledOutput: TypeAlias = PoolingRequestOutput[PoolingOutput]
Progress: TypeAlias = Callable[[int, int], object]
"""Told after each batch how many prompts are done, and of how many."""
Cancel: TypeAlias = "Event | Callable[[], bool] | None"
"""Ends a call: an event, or a function that is asked now and then, also from other threads."""


class EndOptions(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Arguments of all verbs that end a call early.

    Raises:
        ParamsError: a field has the wrong type or range.
    """

    deadline_s: float | None = None
    cancel: Cancel = None

    def __post_init__(self) -> None:
        if self.deadline_s is not None and not is_seconds(self.deadline_s):
            raise ParamsError(
                f"deadline_s={self.deadline_s!r} is not possible; expected seconds above 0, or None"
            )
        if self.cancel is not None and not (callable(self.cancel) or hasattr(self.cancel, "is_set")):
            raise ParamsError(
                f"cancel is a {type(self.cancel).__name__}; expected a threading.Event, a function that returns "
                "whether to end, or None"
            )

    def scope(self) -> CancelScope:
        """What the call is computed in."""
        asked = self.cancel
        return CancelScope(self.deadline_s, asked if asked is None or callable(asked) else asked.is_set)


class ShowOptions(EndOptions, frozen=True, kw_only=True, eq=False):
    """Arguments of all verbs that say how far a call is.

    Raises:
        ParamsError: a field has the wrong type.
    """

    use_tqdm: UseTqdm = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        msgspec.structs.force_setattr(self, "use_tqdm", plain(self.use_tqdm))
        if not isinstance(self.use_tqdm, bool) and not callable(self.use_tqdm):
            raise ParamsError(
                f"use_tqdm is a {type(self.use_tqdm).__name__}, {shortened(self.use_tqdm)}; expected True, False, or a "
                "callable like tqdm.tqdm"
            )
        if self.progress is not None and not callable(self.progress):
            raise ParamsError(
                f"progress is a {type(self.progress).__name__}, {shortened(self.progress)}; expected a function of the "
                "number of prompts that are done and the number of all, or None"
            )


def is_seconds(value: Any, *, or_none: bool = False) -> bool:
    """Whether a value is a time above zero, or at least that where it may be none; numpy's numbers are numbers."""
    number: Any = value if isinstance(value, Real) and not isinstance(value, bool) else -1
    return bool(number >= 0 if or_none else number > 0)


def as_count(value: Any, name: str) -> int:
    """A number of things, numpy's integers included.

    Raises:
        ParamsError: no integer of at least 1.
    """
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else 0
    if number < 1:
        raise ParamsError(f"{name}={shortened(value)} is out of range; expected an int >= 1")
    return min(number, sys.maxsize)


def shortened(value: object) -> str:
    """A value as a message shows it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


class CallOptions(ShowOptions, frozen=True, kw_only=True, eq=False):
    """Arguments of the verbs that take prompts; each field means what it means there.

    Raises:
        ParamsError: a field has the wrong type or range, or two contradict each other.
    """

    pooling_params: Params = None
    pooling_task: Task | None = None
    tower: str | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: Side | None = None
    long_text: LongText | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pooling_task", "tower", "prompt_name", "prompt", "truncation_side", "long_text"):
            _check_word(getattr(self, name), name)
        if self.long_text is not None:
            self._check_long_text()
        if self.prompt is not None:
            self._check_prompt()
        _check_truncation(self.truncate_prompt_tokens)
        if self.truncation_side not in (None, "left", "right"):
            raise ParamsError(
                f"truncation_side={self.truncation_side!r} is not known; expected 'left', 'right' or None"
            )

    def limit(self, model_default: int | None) -> int | None:
        """truncate_prompt_tokens of the prompts whose parameters leave it open."""
        if self.long_text is not None:
            return -1 if self.long_text == "truncate" else None
        return model_default if self.truncate_prompt_tokens is None else int(self.truncate_prompt_tokens)

    def _check_long_text(self) -> None:
        if self.long_text not in get_args(LongText):
            raise ParamsError(
                f"long_text={self.long_text!r} is not known; expected 'error', 'truncate' or 'mean'"
            )
        if self.truncate_prompt_tokens is not None or self.truncation_side is not None:
            raise ParamsError("long_text and truncation are both given; expected one of them")

    def _check_prompt(self) -> None:
        if self.prompt_name is not None:
            raise ParamsError("prompt_name and prompt are both given; expected one of them")


class PairOptions(ShowOptions, frozen=True, kw_only=True, eq=False):
    """Arguments of the verbs that take a query and documents; each field means what it means there.

    Raises:
        ParamsError: a field has the wrong type or range.
    """

    pooling_params: Params = None
    truncate_prompt_tokens: int | None = None
    truncate: PairTruncation = "longest_first"
    instruction: str | None = None
    query_prompt_name: str | None = None
    document_prompt_name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("truncate", "instruction", "query_prompt_name", "document_prompt_name"):
            _check_word(getattr(self, name), name)
        _check_truncation(self.truncate_prompt_tokens)
        if self.truncate not in get_args(PairTruncation):
            raise ParamsError(
                f"truncate={self.truncate!r} is not known; expected 'longest_first' or 'document'"
            )

    def limit(self, model_default: int | None) -> int | None:
        """truncate_prompt_tokens of the pairs whose parameters leave it open."""
        return model_default if self.truncate_prompt_tokens is None else int(self.truncate_prompt_tokens)


def _check_word(value: object, name: str) -> None:
    if value is not None and not isinstance(value, str):
        raise ParamsError(f"{name} is a {type(value).__name__}, {shortened(value)}; expected text, or None")


def _check_truncation(truncate_prompt_tokens: int | None) -> None:
    if truncate_prompt_tokens is not None:
        PoolingParams(truncate_prompt_tokens=truncate_prompt_tokens)  # raises what is wrong with it
