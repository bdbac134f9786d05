"""The accepted forms of prompts, brought to texts and token-id lists."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from embedge._cancelling import check_call
from embedge.errors import PromptError
from embedge.types import ParsedPrompt, PromptInput

_ASKED_EVERY = 64
_SHOWN_COLUMNS = 4
_PROMPT_FORMS = 'expected text, {"prompt": text}, {"prompt_token_ids": ids} or a list of token ids'


def parse_prompts(prompts: PromptInput | Iterable[PromptInput]) -> list[ParsedPrompt]:
    """Bring every accepted form of prompts to a list of texts, token-id lists and pairs.

    Raises:
        PromptError: a prompt of another form; the message and `.index` name it.
    """
    if isinstance(prompts, (str, Mapping)):
        return [parse_prompt(prompts, 0)]
    items = listed(prompts)
    if _is_token_ids(items):
        return [parse_prompt(items, 0)]
    return [
        prompt if type(prompt) is str else parse_prompt(prompt, index) for index, prompt in enumerate(items)
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


def listed(
    prompts: Any, name: str = "prompts", forms: str = f"{_PROMPT_FORMS}, or an iterable of these"
) -> list[Any]:
    """The items of the caller's own kind of iterable by position.

    Args:
        prompts: what the caller gave.
        name: of the argument.
        forms: what is expected, for messages.

    Raises:
        PromptError: it has no items, none that are texts of their own, or no order.
    """
    if isinstance(prompts, list):
        return prompts
    check_no_table(prompts, name)
    if isinstance(prompts, (bytes, bytearray, set, frozenset)) or not hasattr(prompts, "__iter__"):
        raise PromptError(f"{name} is {_describe(prompts)}; {forms}")
    if hasattr(prompts, "__next__"):
        return list(_taken(prompts))
    try:
        return list(prompts)
    except Exception as error:
        raise PromptError(
            f"{name} is {_describe(prompts)}, which cannot be gone through: {error}; {forms}"
        ) from error


def _taken(prompts: Iterator[Any]) -> Iterator[Any]:
    """What a generator gives, whose own errors are the caller's; the call may end while it works, or has no end."""
    for index, prompt in enumerate(prompts):
        if index % _ASKED_EVERY == 0:
            check_call()
        yield prompt


def check_no_table(prompts: Any, name: str = "prompts") -> None:
    """Refuse tables, whose items are the names of their columns, or whole columns.

    Raises:
        PromptError: they are one, of pandas, polars or pyarrow.
    """
    names = getattr(prompts, "column_names", None)
    if names is None:
        names = getattr(prompts, "columns", None)
    if names is None or callable(names) or not hasattr(prompts, "__len__"):
        return
    kind = type(prompts).__name__
    shown = [name for name in names if isinstance(name, str)]
    columns = ", ".join(map(repr, shown[:_SHOWN_COLUMNS])) + (" …" if len(shown) > _SHOWN_COLUMNS else "")
    raise PromptError(
        f"{name} is a {kind}, a table with the columns {columns or 'of numbers'}; expected the texts of one column. "
        f"Pass that, as in {kind.lower()}[{(shown or ['text'])[0]!r}]."
    )


def _is_token_ids(items: list[Any]) -> bool:
    if not items:
        return False
    first = items[0]
    return not isinstance(first, bool) and hasattr(first, "__index__") and not hasattr(first, "__len__")


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


def empty_prompt(index: int) -> PromptError:
    """What to raise for a text of no token."""
    return PromptError(
        f"prompt {index} is empty: this tokenizer adds no special tokens, so nothing would be left "
        "to pool. Pass a text with at least one token.",
        index=index,
    )
