"""What all prompts of a kind begin with, whatever their texts are."""

from __future__ import annotations

from collections.abc import Sequence

from embedge._text.encodings import TextTokenizer
from embedge._text.surroundings import Around

FILLERS = ("0", "a", "\u00e9")
"""Texts of which no two begin alike; each in place of what differs from prompt to prompt."""
_MOST = 64
"""Stored prompts are few; prompts in words may be many."""


class Leads:
    """What a model's prompts begin with by what is put before their texts; the last few are kept."""

    def __init__(self) -> None:
        self._kept: dict[str, list[int]] = {}

    def of(self, stored_prompt: str, around: Around, texts: TextTokenizer) -> list[int]:
        """Tokens before every text.

        Args:
            stored_prompt: what is put there, maybe within a template.
            around: gives what goes around texts.
            texts: tokenises them.
        """
        lead = self._kept.get(stored_prompt)
        if lead is None:
            shared = around.of(stored_prompt, with_offsets=False)
            filled = [shared.put(each) for each in FILLERS] if shared.before else []
            encodings = texts.encode(filled, special_tokens=shared.special_tokens)
            lead = common_lead([encoding.ids for encoding in encodings])
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[stored_prompt] = lead
        return lead


def common_lead(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all prompts begin with.

    A tokenizer may join the end of what stands before a text with the text's beginning. Then a prompt of another text
    does not begin with these tokens, which whoever uses them has to look at.
    """
    lead: list[int] = []
    for tokens in zip(*prompts, strict=False):
        if len(set(tokens)) > 1:
            break
        lead.append(tokens[0])
    return lead
