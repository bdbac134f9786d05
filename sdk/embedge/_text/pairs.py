"""Query and document to token ids: pairs, and late interaction's markers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedge._text.tokenizer import PromptTokenizer
from embedge._text.tokens import Encoded
from embedge.manifest import LateInteractionSpec
from embedge.types import PairTruncation

if TYPE_CHECKING:
    from tokenizers import Encoding


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
    encodings = _encodings(tokenizer, queries, documents, limits)
    return [
        tokenizer.truncation.fit_pair(encoding, limit, truncate, f"pair {index}", index)
        for index, (encoding, limit) in enumerate(zip(encodings, limits, strict=True))
    ]


def _encodings(
    tokenizer: PromptTokenizer,
    queries: Sequence[str],
    documents: Sequence[str],
    limits: Sequence[int | None],
) -> list[Encoding]:
    """Pairs as the tokenizer gives them; of very long documents as much as decides about what is kept."""
    texts, truncation = tokenizer.texts, tokenizer.truncation
    rooms = [truncation.room(limit) for limit in limits]
    parts = [
        document if limit is None else texts.part(document, room, truncation.side)
        for document, limit, room in zip(documents, limits, rooms, strict=True)
    ]
    encodings = texts.encode(list(zip(queries, parts, strict=True)))
    for index, (part, document) in enumerate(zip(parts, documents, strict=True)):
        if len(part) == len(document):
            continue
        sides = encodings[index].sequence_ids
        # beside a shorter query, the tokens of a document that fill the room do not depend on their number
        if not sides.count(0) < rooms[index] <= sides.count(1):
            encodings[index] = texts.encode([(queries[index], document)])[0]
    return encodings


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
    encodings, _ = tokenizer.texts.encode_for(texts, [room] * len(texts), ["right"] * len(texts))
    for index, encoding in enumerate(encodings):
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
