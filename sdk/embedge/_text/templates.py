"""Texts put into a template: filled in, and what the template ends in found, which stays when a text is cut."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from embedge._text.cutting import Truncation
from embedge._text.encodings import TextTokenizer
from embedge.errors import ParamsError
from embedge.manifest import TemplateSpec

Fields = Mapping[str, str]
_FILLERS = ("0", "1 2 3 4")


def body_of(template: TemplateSpec, instruction: str) -> str:
    """The body that is filled in.

    Raises:
        ParamsError: there is an instruction, and the template takes none.
    """
    if not instruction or template.way == "apart":
        return template.body
    if template.instructed_body is None:
        raise ParamsError("the model's chat template takes no prompt and no instruction; leave it out")
    return template.instructed_body


def fill(template: TemplateSpec, body: str, fields: Fields) -> str:
    """A body with its fields filled in; braces in the texts are no fields."""
    stripped = {name: text.strip() if name in template.stripped else text for name, text in fields.items()}
    parts = body.split("{")
    filled = parts[0]
    for part in parts[1:]:
        name, closed, rest = part.partition("}")
        filled += stripped[name] + rest if closed and name in stripped else "{" + part
    return filled


def truncation_of(
    template: TemplateSpec, instruction: str, texts: TextTokenizer, base: Truncation
) -> Truncation:
    """How what was put into a template is cut: from the side as ever, then its end is put back.

    Source:
        sentence-transformers 6 `Transformer._restore_chat_template_suffix`: the end is what two short fillings have in
        common, counted in tokens from the last.
    """
    body = body_of(template, instruction)
    short, other = (
        texts.ids_without_specials(
            fill(template, body, {"instruction": instruction, "text": each, "query": each, "document": each})
        )
        for each in _FILLERS
    )
    common = 0
    for left, right in zip(reversed(short), reversed(other), strict=False):
        if left != right:
            break
        common += 1
    # where one filling is the end of the other, nothing tells its end from its text
    end = (
        short[len(short) - common :] if template.restore_end and common < min(len(short), len(other)) else []
    )
    return msgspec.structs.replace(
        base, prefix_ids=[], suffix_ids=end[-base.max_seq_len :], puts_back=bool(end)
    )


def around_text(template: TemplateSpec, instruction: str) -> tuple[str, str]:
    """What a template for single texts has before and after the text.

    Raises:
        ParamsError: see `body_of`.
    """
    before, _, after = body_of(template, instruction).partition("{text}")
    fields = {"instruction": instruction}
    return fill(template, before, fields), fill(template, after, fields)
