"""The accepted forms of prompts, brought to texts and token-id lists."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, cast

from embedge.errors import PromptError
from embedge.types import ParsedPrompt, PromptInput

_PROMPT_FORMS = 'expected text, {"prompt": text}, {"prompt_token_ids": ids} or a list of token ids'


def parse_prompts(prompts: PromptInput | Iterable[PromptInput]) -> list[ParsedPrompt]:
    """Bring every accepted form of prompts to a list of texts, token-id lists and pairs.

    Raises:
        PromptError: a prompt of another form; the message and `.index` name it.
    """
    if isinstance(prompts, (str, Mapping)):
        return [parse_prompt(prompts, 0)]
    if (
        hasattr(prompts, "__len__")
        and hasattr(prompts, "__iter__")
        and not isinstance(prompts, (list, tuple))
    ):
        prompts = _listed(prompts)
    if _is_token_ids(prompts):
        return [parse_prompt(prompts, 0)]
    if isinstance(prompts, (bytes, bytearray, set, frozenset)) or not (
        hasattr(prompts, "__len__") and hasattr(prompts, "__iter__")
    ):
        raise PromptError(f"prompts is {_describe(prompts)}; {_PROMPT_FORMS}, or a sequence of these")
    return [
        prompt if type(prompt) is str else parse_prompt(prompt, index)
        for index, prompt in enumerate(cast("Iterable[PromptInput]", prompts))
    ]


def parse_prompt(prompt: Any, index: int) -> ParsedPrompt:
    """Bring one prompt to text, token ids or a pair.

    Raises:
        PromptError: another form; `.index` is the index given.
    """
    if isinstance(prompt, str):
        return str(prompt)
    if isinstance(prompt, Mapping):
        if "multi_modal_data" in prompt:
            raise PromptError(
                f"prompt {index} has multi_modal_data; embedge runs text encoders only. Pass the text alone.",
                index=index,
            )
        if set(prompt) == {"text", "text_pair"}:
            for side in prompt.values():
                if not isinstance(side, str):
                    raise PromptError(
                        f"prompt {index} is a pair that holds {_describe(side)}; expected text", index=index
                    )
            return str(prompt["text"]), str(prompt["text_pair"])
        known = {"prompt", "prompt_token_ids"} & set(prompt)
        if len(known) != 1 or len(prompt) != 1:
            raise PromptError(
                f"prompt {index} is a dict with keys {sorted(map(str, prompt))}; {_PROMPT_FORMS}", index=index
            )
        inner = prompt[known.pop()]
        if isinstance(inner, str) != ("prompt" in prompt):
            raise PromptError(f"prompt {index} holds {_describe(inner)}; {_PROMPT_FORMS}", index=index)
        return parse_prompt(inner, index)
    if (
        isinstance(prompt, (bytes, bytearray))
        or not hasattr(prompt, "__len__")
        or not hasattr(prompt, "__iter__")
    ):
        raise PromptError(f"prompt {index} is {_describe(prompt)}; {_PROMPT_FORMS}", index=index)
    try:
        items = list(prompt)
    except TypeError as error:  # an array of no dimensions
        raise PromptError(f"prompt {index} is {_describe(prompt)}; {_PROMPT_FORMS}", index=index) from error
    if not items:
        raise PromptError(f"prompt {index} is an empty list of token ids; expected at least one", index=index)
    token_ids = []
    for token_id in items:
        try:
            # arrays have __index__, too, and so have the classes of whole numbers
            whole = None if isinstance(token_id, bool) else operator.index(token_id)
        except TypeError:
            whole = None
        if whole is None:
            raise PromptError(
                f"prompt {index} is a list that holds {_describe(token_id)}; {_PROMPT_FORMS}", index=index
            )
        token_ids.append(whole)
    return token_ids


def _listed(prompts: Any) -> Any:
    """The items of the caller's own kind of sequence by position; what has no order stays what it is."""
    if isinstance(prompts, (bytes, bytearray, set, frozenset)):
        return prompts
    try:
        return list(prompts)
    except Exception as error:
        raise PromptError(
            f"prompts is {_describe(prompts)}, which cannot be gone through: {error}; {_PROMPT_FORMS}, or a sequence "
            "of these"
        ) from error


def _is_token_ids(prompts: Any) -> bool:
    if (
        isinstance(prompts, (str, bytes, Mapping))
        or not hasattr(prompts, "__len__")
        or not hasattr(prompts, "__iter__")
    ):
        return False
    first = next(iter(prompts), None)
    return (
        first is not None
        and not isinstance(first, bool)
        and hasattr(first, "__index__")
        and not hasattr(first, "__len__")
    )


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"


def check_text(text: str, index: int) -> None:
    """Refuse text that UTF-8 cannot express.

    Raises:
        PromptError: text holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"prompt {index} is no valid text: {error.reason} at character {error.start}. "
            "Decode the input with errors='replace' first.",
            index=index,
        ) from error


def check_token_ids(token_ids: list[int], vocab_size: int, index: int) -> None:
    """Refuse token ids that a model does not know.

    Raises:
        PromptError: an id below 0, or not below the vocabulary's size.
    """
    if min(token_ids) < 0 or max(token_ids) >= vocab_size:
        wrong = next(t for t in token_ids if not 0 <= t < vocab_size)
        raise PromptError(
            f"prompt {index} holds token id {wrong}; this model's vocabulary has ids 0 to {vocab_size - 1}",
            index=index,
        )
