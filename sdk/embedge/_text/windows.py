"""Long prompts in windows: cut, weighed, and joined again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import msgspec

from embedge._text.cutting import Truncation
from embedge._text.tokenizer import PromptTokenizer
from embedge._text.tokens import Encoded
from embedge.errors import PromptError
from embedge.types import ParsedPrompt


class Windows(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A prompt in windows, each with what goes around the text.

    Attributes:
        parts: the windows, in order.
        lead: tokens of each before the text: special ones, a stored prompt's, a template's.
        suffix: tokens of each after the text.
    """

    parts: list[Encoded]
    lead: int
    suffix: int

    @property
    def num_text_tokens(self) -> list[int]:
        """Tokens of text in each window; 1 for an empty text, so that it still counts."""
        return [max(1, len(part.token_ids) - self.lead - self.suffix) for part in self.parts]

    def joined(self) -> Encoded:
        """The prompt that was cut."""
        first = self.parts[0]
        if len(self.parts) == 1:
            return first
        text = [
            token_id
            for part in self.parts
            for token_id in part.token_ids[self.lead : len(part.token_ids) - self.suffix]
        ]
        end = first.token_ids[len(first.token_ids) - self.suffix :]
        return Encoded(
            token_ids=[*first.token_ids[: self.lead], *text, *end], num_prompt_tokens=first.num_prompt_tokens
        )


def cut_into_windows(
    tokenizer: PromptTokenizer, prompts: Sequence[ParsedPrompt], stored_prompt: str = ""
) -> list[Windows]:
    """Cut each prompt into windows of at most max_seq_len tokens, each with special tokens and stored prompt.

    Where the model puts texts into a template, each window has the template's tokens around it. A token in which
    template and text merged counts as text.

    Args:
        tokenizer: the bundle's.
        prompts: texts and token ids; a pair is refused before.
        stored_prompt: text put before every text prompt, or into the template.

    Raises:
        PromptError: as PromptTokenizer.whole; or the stored prompt leaves no room.
        ParamsError: the template takes no prompt.
    """
    with closing(
        tokenizer.whole(prompts, stored_prompt, with_offsets=tokenizer.message is not None)
    ) as encoded:
        return [_windows(tokenizer.truncation, whole, index) for index, whole in enumerate(encoded)]


def _windows(truncation: Truncation, whole: Encoded, index: int) -> Windows:
    token_ids, limit = whole.token_ids, truncation.max_seq_len
    lead, suffix = _around(truncation, whole)
    if len(token_ids) <= limit:
        return Windows(parts=[whole], lead=lead, suffix=suffix)
    room = limit - lead - suffix
    if room < 1:
        raise PromptError(
            f"prompt {index}: the stored prompt and special tokens take {lead + suffix} of {limit} tokens, which "
            "leaves no room for text. Use a shorter prompt.",
            index=index,
        )
    end = len(token_ids) - suffix
    parts = [
        Encoded(
            token_ids=token_ids[:lead] + token_ids[start : min(start + room, end)] + token_ids[end:],
            num_prompt_tokens=whole.num_prompt_tokens,
        )
        for start in range(lead, end, room)
    ]
    return Windows(parts=parts, lead=lead, suffix=suffix)


def _around(truncation: Truncation, encoded: Encoded) -> tuple[int, int]:
    """Tokens before a prompt's text, the stored prompt's included, and after it."""
    if encoded.offsets is not None:
        of_text = [index for index, (start, end) in enumerate(encoded.offsets) if start < end]
        return (
            (of_text[0], len(encoded.token_ids) - of_text[-1] - 1) if of_text else (len(encoded.token_ids), 0)
        )
    prefix, suffix = truncation.num_specials(encoded.token_ids)
    return max(prefix, encoded.num_prompt_tokens), suffix
