"""What goes around every text of a call: a stored prompt before it, or the model's template."""

from __future__ import annotations

import msgspec

from embedge._text.cutting import Truncation
from embedge._text.encodings import TextTokenizer
from embedge._text.templates import around_text, truncation_of
from embedge.manifest import TemplateSpec


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What the prompts of a call have in common.

    Attributes:
        before, after: text put around every text prompt.
        truncation: of text prompts.
        num_prompt_tokens: see Encoded.
        with_offsets: fill Encoded.offsets.
        special_tokens: the tokenizer puts its own around them.
        strips: texts lose the white space at both ends.
    """

    before: str
    truncation: Truncation
    num_prompt_tokens: int
    with_offsets: bool
    after: str = ""
    special_tokens: bool = True
    strips: bool = False

    def put(self, prompt: str | tuple[str, str]) -> str | tuple[str, str]:
        """A text, or a pair's first side, with what goes around it."""
        if not (self.before or self.after or self.strips):
            return prompt
        if isinstance(prompt, tuple):
            return self.before + prompt[0], prompt[1]
        return self.before + (prompt.strip() if self.strips else prompt) + self.after

    def offsets(self, counted: list[tuple[int, int]], prompt: str | tuple[str, str]) -> list[tuple[int, int]]:
        """Of each token, counted in the prompt as it was given; (0, 0) for those that hold nothing of it.

        Args:
            counted: in what was tokenised.
            prompt: as it was given.
        """
        if not (self.before or self.after or self.strips) or isinstance(prompt, tuple):
            return counted
        text = prompt.strip() if self.strips else prompt
        shift = prompt.find(text) - len(self.before)
        first, last = len(self.before), len(self.before) + len(text)
        return [
            (max(start, first) + shift, min(end, last) + shift)
            if max(start, first) < min(end, last)
            else (0, 0)
            for start, end in counted
        ]


class Around:
    """Makes what goes around the texts of a call; of the last prompt it is kept, which mostly is the next one's, too.

    Args:
        template: that every text is put into, with a stored prompt as its instruction; None puts a prompt before it.
        texts: what calls the tokenizers package.
        truncation: of texts without a template.
    """

    def __init__(self, template: TemplateSpec | None, texts: TextTokenizer, truncation: Truncation) -> None:
        self._template, self._texts, self._truncation = template, texts, truncation
        self._last: tuple[tuple[str, bool], Shared] | None = None

    def of(self, prompt: str, *, with_offsets: bool) -> Shared:
        """Around texts with a stored prompt, which may be empty.

        Raises:
            ParamsError: the template takes no prompt.
        """
        last = self._last  # other threads may put theirs in its place
        if last is not None and last[0] == (prompt, with_offsets):
            return last[1]
        made = (
            self._after(prompt, with_offsets=with_offsets)
            if self._template is None
            else self._in_message(self._template, prompt, with_offsets=with_offsets)
        )
        self._last = (prompt, with_offsets), made
        return made

    def _after(self, prompt: str, *, with_offsets: bool) -> Shared:
        suffix = len(self._truncation.suffix_ids)
        leading = len(self._texts.encode([prompt])[0].ids) - suffix if prompt else 0
        return Shared(
            before=prompt, truncation=self._truncation, num_prompt_tokens=leading, with_offsets=with_offsets
        )

    def _in_message(self, template: TemplateSpec, prompt: str, *, with_offsets: bool) -> Shared:
        before, after = around_text(template, prompt)
        return Shared(
            before=before,
            after=after,
            truncation=truncation_of(template, prompt, self._texts, self._truncation),
            num_prompt_tokens=0,  # the library leaves no prompt out of the pooling that is part of a message
            with_offsets=with_offsets,
            special_tokens=False,
            strips="text" in template.stripped,
        )
