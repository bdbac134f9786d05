"""Query and document to token ids: pairs, an LLM reranker's template, late interaction's markers."""

from __future__ import annotations

from collections.abc import Sequence

from embedge._text.cutting import too_long
from embedge._text.tokenizer import PromptTokenizer
from embedge._text.tokens import Encoded
from embedge.errors import ParamsError, PromptError
from embedge.manifest import LateInteractionSpec, TemplateSpec
from embedge.types import PairTruncation


def encode_pairs(
    tokenizer: PromptTokenizer,
    queries: Sequence[str],
    documents: Sequence[str],
    limits: Sequence[int | None],
    truncate: PairTruncation = "longest_first",
) -> list[Encoded]:
    """Tokenise pairs for a cross-encoder, with the tokenizer's own pair template and segment ids.

    Args:
        tokenizer: the bundle's.
        queries: first side of each pair.
        documents: second side of each pair.
        limits: truncate_prompt_tokens of each pair.
        truncate: which side is cut: the longer one, as the tokenizers package does it, or the document only.

    Raises:
        PromptError: a pair is too long and not to be cut, or its query leaves no room for the document.
    """
    for limit in set(limits):
        tokenizer.truncation.check(limit)
    encodings = tokenizer.texts.encode(list(zip(queries, documents, strict=True)))
    return [
        tokenizer.truncation.fit_pair(encoding, limit, truncate, f"pair {index}", index)
        for index, (encoding, limit) in enumerate(zip(encodings, limits, strict=True))
    ]


def encode_template(
    tokenizer: PromptTokenizer,
    template: TemplateSpec,
    queries: Sequence[str],
    documents: Sequence[str],
    limits: Sequence[int | None],
    instruction: str | None = None,
) -> list[Encoded]:
    """Fill a reranker's template; when a pair is too long, the end of its body is cut, as the model cards do.

    Raises:
        PromptError: a pair is too long and not to be cut, or nothing would be left of its last text.
        ParamsError: a limit does not hold the template's fixed text.
    """
    for limit in set(limits):
        tokenizer.truncation.check(limit)
    prefix = tokenizer.texts.ids_without_specials(template.prefix) if template.prefix else []
    suffix = tokenizer.texts.ids_without_specials(template.suffix) if template.suffix else []
    fixed = len(prefix) + len(suffix)
    stated = template.instruction if instruction is None else instruction
    fields = [
        {"instruction": stated, "query": query, "document": document}
        for query, document in zip(queries, documents, strict=True)
    ]
    bodies = [_fill(template.body, each) for each in fields]
    # the end of the body is cut, so its last text is what gives way
    lead, last = max((template.body.find(f"{{{side}}}"), side) for side in ("query", "document"))
    encoded = []
    for index, (encoding, limit) in enumerate(zip(tokenizer.texts.encode(bodies), limits, strict=True)):
        body = [
            t for t, special in zip(encoding.ids, encoding.special_tokens_mask, strict=True) if not special
        ]
        room = tokenizer.truncation.room(limit) - fixed
        if room < 1:
            raise ParamsError(
                f"the template's fixed text takes {fixed} tokens, which leaves no room; raise the limit"
            )
        if len(body) > room and limit is None:
            raise too_long(f"pair {index}", f"{len(body) + fixed} tokens", room + fixed, index)
        dropped = max(0, len(body) - room)
        if dropped:
            before = len(tokenizer.texts.ids_without_specials(_fill(template.body[:lead], fields[index])))
            if before >= room:
                raise PromptError(
                    f"pair {index}: what the template has before the {last} takes {before} tokens, and its fixed text "
                    f"{fixed}; the limit is {room + fixed}, so nothing of the {last} is left. "
                    f"Shorten the {'query' if last == 'document' else 'document'}.",
                    index=index,
                )
        encoded.append(
            Encoded(
                token_ids=[*prefix, *body[:room], *suffix],
                num_truncated=dropped,
                num_truncated_query=dropped if last == "query" else 0,
            )
        )
    return encoded


def encode_late(
    tokenizer: PromptTokenizer, spec: LateInteractionSpec, texts: Sequence[str], *, is_query: bool
) -> list[Encoded]:
    """Tokenise one side for late interaction: cut, marker after the first special token, query expansion.

    Source:
        PyLate `ColBERT.tokenize`; the original ColBERT's query and document tokenizers.
    """
    marker = spec.query_marker_id if is_query else spec.document_marker_id
    limit = spec.query_len if is_query else spec.document_len
    room = limit - (marker is not None)
    lead = len(tokenizer.spec.prefix_ids)
    encoded = []
    for index, encoding in enumerate(tokenizer.texts.encode(list(texts))):
        cut = tokenizer.truncation.fit(
            Encoded(token_ids=encoding.ids), room if len(encoding.ids) > room else None, "right", index
        )
        token_ids = [*cut.token_ids[:lead], *([] if marker is None else [marker]), *cut.token_ids[lead:]]
        attended = len(token_ids)
        if is_query and spec.expand_query and spec.expansion_token_id is not None:
            token_ids += [spec.expansion_token_id] * (limit - attended)
        encoded.append(
            Encoded(
                token_ids=token_ids,
                num_truncated=cut.num_truncated,
                num_attended=None if spec.attend_to_expansion else attended,
            )
        )
    return encoded


def _fill(body: str, fields: dict[str, str]) -> str:
    # str.format would trip over braces in texts that are filled in one after the other
    parts = body.split("{")
    filled = parts[0]
    for part in parts[1:]:
        name, closed, rest = part.partition("}")
        filled += fields[name] + rest if closed and name in fields else "{" + part
    return filled
