"""Pairs that a reranker's template holds: tokenised whole or in parts, and cut so that the template's end stays."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from embedge._text.cutting import too_long
from embedge._text.leading import FILLERS, common_lead
from embedge._text.templates import Fields, body_of, fill, truncation_of
from embedge._text.tokenizer import PromptTokenizer
from embedge._text.tokens import Encoded
from embedge.errors import ParamsError, PromptError
from embedge.manifest import TemplateSpec


def encode_template(
    tokenizer: PromptTokenizer,
    template: TemplateSpec,
    queries: Sequence[str],
    documents: Sequence[str],
    limits: Sequence[int | None],
    instruction: str | None = None,
) -> list[Encoded]:
    """Fill a reranker's template; when a pair is too long, its last text gives way.

    Args:
        tokenizer: the bundle's.
        template: of its pairs.
        queries: first text of each pair.
        documents: second text of each pair.
        limits: truncate_prompt_tokens of each pair.
        instruction: None takes the template's own, "" none.

    Raises:
        PromptError: a pair is too long and not to be cut, or nothing would be left of its last text.
        ParamsError: a limit does not hold the template's fixed text, or the template takes no instruction.
    """
    for limit in set(limits):
        tokenizer.truncation.check(limit)
    stated = template.instruction if instruction is None else instruction
    fields = [
        {"instruction": stated, "query": query, "document": document}
        for query, document in zip(queries, documents, strict=True)
    ]
    encode = _encode_whole if template.way == "whole" else _encode_apart
    return encode(tokenizer, template, fields, limits)


def template_lead(
    tokenizer: PromptTokenizer, template: TemplateSpec, query: str | None, instruction: str | None = None
) -> list[int]:
    """Tokens that pairs begin with, see `common_lead`.

    Args:
        tokenizer: the bundle's.
        template: of its pairs.
        query: of all pairs; None where it differs.
        instruction: as of `encode_template`.
    """
    stated = template.instruction if instruction is None else instruction
    body = template.body if template.way == "apart" else body_of(template, stated)
    fields = (
        {"instruction": stated, "query": each if query is None else query, "document": each}
        for each in FILLERS
    )
    ids = tokenizer.texts.ids_without_specials
    common = common_lead([ids(fill(template, body, each)) for each in fields])
    apart = template.way == "apart" and template.prefix
    return [*ids(template.prefix), *common] if apart else common


def _encode_whole(
    tokenizer: PromptTokenizer,
    template: TemplateSpec,
    fields: Sequence[Fields],
    limits: Sequence[int | None],
) -> list[Encoded]:
    instruction = fields[0]["instruction"]
    body = body_of(template, instruction)
    truncation = truncation_of(template, instruction, tokenizer.texts, tokenizer.truncation)
    fixed = len(truncation.suffix_ids)
    filled = [fill(template, body, each) for each in fields]
    encoded = []
    right = truncation.side == "right"
    rooms = [truncation.room(limit) if right and limit is not None else None for limit in limits]
    encodings, _ = tokenizer.texts.encode_for(
        filled, rooms, [truncation.side] * len(filled), special_tokens=False
    )
    for index, (encoding, limit) in enumerate(zip(encodings, limits, strict=True)):
        whole, room = Encoded(token_ids=encoding.ids), truncation.room(limit)
        if room <= fixed:
            raise _no_room(fixed)
        if len(whole.token_ids) > room:
            if limit is None:
                raise too_long(f"pair {index}", f"{len(whole.token_ids)} tokens", room, index)
            if truncation.side == "right":
                _check_last_text(tokenizer, template, body, fields[index], index, room - fixed, fixed)
        cut = truncation.fit(whole, limit, truncation.side, index)
        encoded.append(_with_side(cut, body))
    return encoded


def _encode_apart(
    tokenizer: PromptTokenizer,
    template: TemplateSpec,
    fields: Sequence[Fields],
    limits: Sequence[int | None],
) -> list[Encoded]:
    prefix = tokenizer.texts.ids_without_specials(template.prefix) if template.prefix else []
    suffix = tokenizer.texts.ids_without_specials(template.suffix) if template.suffix else []
    fixed = len(prefix) + len(suffix)
    bodies = [fill(template, template.body, each) for each in fields]
    encoded = []
    rooms = [None if limit is None else max(1, tokenizer.truncation.room(limit)) for limit in limits]
    encodings, _ = tokenizer.texts.encode_for(bodies, rooms, ["right"] * len(bodies), special_tokens=False)
    for index, (encoding, limit) in enumerate(zip(encodings, limits, strict=True)):
        body = encoding.ids
        room = tokenizer.truncation.room(limit) - fixed
        if room < 1:
            raise _no_room(fixed)
        if len(body) > room:
            if limit is None:
                raise too_long(f"pair {index}", f"{len(body) + fixed} tokens", room + fixed, index)
            _check_last_text(tokenizer, template, template.body, fields[index], index, room, fixed)
        cut = Encoded(token_ids=[*prefix, *body[:room], *suffix], num_truncated=max(0, len(body) - room))
        encoded.append(_with_side(cut, template.body))
    return encoded


def _with_side(cut: Encoded, body: str) -> Encoded:
    if _last_text(body)[1] == "document":
        return cut
    return msgspec.structs.replace(cut, num_truncated_query=cut.num_truncated)


def _last_text(body: str) -> tuple[int, str]:
    """Where the last text stands, and which it is; it gives way as the end is cut."""
    return max((body.find(f"{{{side}}}"), side) for side in ("query", "document"))


def _check_last_text(
    tokenizer: PromptTokenizer,
    template: TemplateSpec,
    body: str,
    fields: Fields,
    index: int,
    room: int,
    fixed: int,
) -> None:
    """Refuse a pair of whose last text nothing would be left."""
    lead, last = _last_text(body)
    before = len(tokenizer.texts.ids_without_specials(fill(template, body[:lead], fields)))
    if before >= room:
        raise PromptError(
            f"pair {index}: what the template has before the {last} takes {before} tokens, and its fixed text "
            f"{fixed}; the limit is {room + fixed}, so nothing of the {last} is left. "
            f"Shorten the {'query' if last == 'document' else 'document'}.",
            index=index,
        )


def _no_room(fixed: int) -> ParamsError:
    return ParamsError(
        f"the template's fixed text takes {fixed} tokens, which leaves no room; raise the limit"
    )
