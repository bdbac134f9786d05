"""Long prompts in windows: cut, weighed, and joined again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from embedge._text.cutting import Truncation
from embedge._text.tokenizer import PromptTokenizer
from embedge._text.tokens import Encoded
from embedge.errors import PromptError
from embedge.types import ParsedPrompt


def cut_into_windows(
    tokenizer: PromptTokenizer, prompts: Sequence[ParsedPrompt], stored_prompt: str = ""
) -> list[list[Encoded]]:
    """Cut each prompt into windows of at most max_seq_len tokens, each with special tokens and stored prompt.

    Args:
        tokenizer: the bundle's.
        prompts: texts and token ids; a pair is refused before.
        stored_prompt: text put before every text prompt.

    Raises:
        PromptError: as PromptTokenizer.whole; or the stored prompt leaves no room.
    """
    with closing(tokenizer.whole(prompts, stored_prompt)) as encoded:
        return [_windows(tokenizer.truncation, whole, index) for index, whole in enumerate(encoded)]


def num_text_tokens(tokenizer: PromptTokenizer, window: Encoded) -> int:
    """Tokens that are neither special nor of the stored prompt; 1 for an empty text, so that it still counts."""
    lead, suffix = _around(tokenizer.truncation, window)
    return max(1, len(window.token_ids) - lead - suffix)


def join_windows(tokenizer: PromptTokenizer, windows: Sequence[Encoded]) -> Encoded:
    """The prompt that was cut into these windows."""
    first = windows[0]
    if len(windows) == 1:
        return first
    lead, suffix = _around(tokenizer.truncation, first)
    text = [t for window in windows for t in window.token_ids[lead : len(window.token_ids) - suffix]]
    end = first.token_ids[len(first.token_ids) - suffix :]
    return Encoded(
        token_ids=[*first.token_ids[:lead], *text, *end], num_prompt_tokens=first.num_prompt_tokens
    )


def _windows(truncation: Truncation, whole: Encoded, index: int) -> list[Encoded]:
    token_ids, limit = whole.token_ids, truncation.max_seq_len
    if len(token_ids) <= limit:
        return [whole]
    lead, suffix = _around(truncation, whole)
    room = limit - lead - suffix
    if room < 1:
        raise PromptError(
            f"prompt {index}: the stored prompt and special tokens take {lead + suffix} of {limit} tokens, which "
            "leaves no room for text. Use a shorter prompt.",
            index=index,
        )
    end = len(token_ids) - suffix
    return [
        Encoded(
            token_ids=token_ids[:lead] + token_ids[start : min(start + room, end)] + token_ids[end:],
            num_prompt_tokens=whole.num_prompt_tokens,
        )
        for start in range(lead, end, room)
    ]


def _around(truncation: Truncation, encoded: Encoded) -> tuple[int, int]:
    """Tokens before a prompt's text, the stored prompt's included, and after it."""
    prefix, suffix = truncation.num_specials(encoded.token_ids)
    return max(prefix, encoded.num_prompt_tokens), suffix
