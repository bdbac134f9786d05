"""What a tokenizer.json must be to be passed on to the tokenizers package."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from embedge._contents import tokenizer_grammar as grammar
from embedge._contents.patterns import UnsafePatternError, cost_of
from embedge.errors import BundleError

LARGEST_BYTES = 1 << 27
_DEEPEST = 4
_MOST_GROWTH = 2048
"""Of the normalizers together; NFKD and lowercase, as published, come to 54."""
_MOST_STATED_GROWTH = 8
"""Of those that state what they put in place of what."""
_GROWTH = {
    "NFC": 3,
    "NFD": 4,
    "NFKC": 18,
    "NFKD": 18,
    "Lowercase": 3,
    "BertNormalizer": 36,
    "ByteLevelNormalizer": 4,
}
"""Most characters that Unicode, or three spaced ones, put in place of one."""
_DECODER = msgspec.json.Decoder(grammar.Tokenizer)
_MODEL_DECODER = msgspec.json.Decoder(grammar.Model)
_MEMBERS = ("normalizers", "pretokenizers", "processors")


class _RefusedError(ValueError):
    pass


def checked_tokenizer(content: bytes, name: str, *, vocab_size: int) -> bytes:
    """Refuse a tokenizer.json that no exporter writes, and leave out what a bundle's reader does not use.

    Args:
        content: of the file.
        name: of the file, for messages.
        vocab_size: rows of the graph's embedding.

    Returns:
        What to pass on to tokenizers: all of it was looked at here.

    Raises:
        BundleError: it has an unknown component or key, can take time or memory without bound, or a token that the
            graph does not have.
    """
    try:
        if len(content) > LARGEST_BYTES:
            raise _RefusedError(f"it has {len(content)} bytes, more than {LARGEST_BYTES}")
        found = _DECODER.decode(content)
        model = _MODEL_DECODER.decode(found.model)
        _check_ids(model, found, vocab_size)
        _check_normalizers(_flat(found.normalizer))
        for part in _flat(found.pre_tokenizer):
            if isinstance(part, grammar.Split):
                _matched(part.pattern)
        for part in _flat(found.post_processor):
            if isinstance(part, grammar.TemplateProcessing):
                _check_template(part)
    except (ValueError, RecursionError) as error:
        # msgspec's errors and wrong UTF-8 are ValueErrors, too
        raise BundleError(
            f"{name} is none that embedge exported: {str(error)[:300]}. Export the model again, or, if you know who "
            "made this bundle, open it with trust='any'."
        ) from error
    # nothing that was named twice in the file is read in another way than it was looked at
    null = msgspec.Raw(b"null")
    return msgspec.json.encode(msgspec.structs.replace(found, truncation=null, padding=null, decoder=null))


def _flat(part: Any) -> list[Any]:
    """Components in order, those of sequences one by one."""

    def parts(part: Any, depth: int) -> Iterator[Any]:
        if depth > _DEEPEST:
            raise _RefusedError(f"it has sequences within sequences, more than {_DEEPEST} deep")
        for each in next(getattr(part, member) for member in _MEMBERS if hasattr(part, member)):
            if any(hasattr(each, member) for member in _MEMBERS):
                yield from parts(each, depth + 1)
            else:
                yield each

    if part is None:
        return []
    found = list(parts(part, 0)) if any(hasattr(part, member) for member in _MEMBERS) else [part]
    if len(found) > grammar.MOST_PARTS:
        raise _RefusedError(f"it has {len(found)} parts of one kind, more than {grammar.MOST_PARTS}")
    return found


def _check_ids(model: grammar.Model, found: grammar.Tokenizer, vocab_size: int) -> None:
    """Every token has a row of the graph."""
    if isinstance(model, grammar.Unigram):
        ids: list[int] = [len(model.vocab) - 1]
    else:
        ids = [max(model.vocab.values(), default=0), min(model.vocab.values(), default=0)]
    known = {token for token, _ in model.vocab} if isinstance(model, grammar.Unigram) else model.vocab
    # tokenizers number the tokens that the model does not have, whatever the file says
    new = [token.id for token in found.added_tokens if token.content not in known]
    ids += [*new, len(known) + len(new) - 1]
    for part in _flat(found.post_processor):
        if isinstance(part, grammar.BertProcessing | grammar.RobertaProcessing):
            ids += [part.sep[1], part.cls[1]]
        elif isinstance(part, grammar.TemplateProcessing):
            ids += [token_id for each in part.special_tokens.values() for token_id in each.ids]
    if not 0 <= min(ids) <= max(ids) < max(vocab_size, 1):
        wrong = min(ids) if min(ids) < 0 else max(ids)
        raise _RefusedError(f"it has token id {wrong}, and the graph has {vocab_size} tokens")


def _check_normalizers(parts: list[Any]) -> None:
    growth = stated = 1
    for part in parts:
        if isinstance(part, grammar.Replace):
            least = _matched(part.pattern)
            factor = max(1, math.ceil(len(part.content) / max(least, 1))) + (least == 0)
            stated *= factor
        elif isinstance(part, grammar.Precompiled):
            factor = _growth_of_table(part.precompiled_charsmap)
        else:
            factor = _GROWTH.get(type(part).__name__, 1)
        growth *= factor
        if stated > _MOST_STATED_GROWTH or growth > _MOST_GROWTH:
            raise _RefusedError("its normalizers can make a text many times as long")


def _growth_of_table(encoded: str | None) -> int:
    """Most characters in place of one, of a table as SentencePiece compiles it."""
    content = base64.b64decode(encoded or "", validate=True)
    if not content:
        return 1
    (size,) = struct.unpack_from("<I", content.ljust(4, b"\0"))
    if size % 4 or size + 4 > len(content):
        raise _RefusedError("its table of characters is cut short")
    return max(1, max(len(text.decode("utf-8")) for text in content[4 + size :].split(b"\0")))


def _matched(pattern: grammar.Pattern) -> int:
    """Characters that a pattern matches at least."""
    text, expression = pattern.String, pattern.Regex
    if isinstance(text, str) and expression is msgspec.UNSET:
        return len(text)
    if not isinstance(expression, str) or text is not msgspec.UNSET:
        raise _RefusedError("a pattern is neither text nor a regular expression")
    try:
        return cost_of(expression).least
    except UnsafePatternError as error:
        raise _RefusedError(
            f"its regular expression {expression[:80]!r} is not safe to run: {error}"
        ) from error


def _check_template(part: grammar.TemplateProcessing) -> None:
    """A text stands once in its template, and every special token is known."""
    for kind, pieces in (("single", part.single), ("pair", part.pair)):
        texts: list[str] = []
        for piece in pieces:
            sequence, special = piece.Sequence, piece.SpecialToken
            if isinstance(sequence, grammar.Side) == isinstance(special, grammar.Side):
                raise _RefusedError("a piece of its template is neither a text nor a special token")
            if isinstance(sequence, grammar.Side):
                texts.append(sequence.id)
            elif isinstance(special, grammar.Side) and special.id not in part.special_tokens:
                raise _RefusedError(f"its template has {special.id!r}, which is no special token of it")
        if sorted(texts) not in (["A"], ["A", "B"]) or (kind == "pair") != (len(texts) == 2):
            raise _RefusedError(f"its template for a {kind} has the texts {texts[:4]}")
    for name, token in part.special_tokens.items():
        if len(token.ids) != len(token.tokens):
            raise _RefusedError(
                f"its special token {name!r} has {len(token.ids)} ids and {len(token.tokens)} tokens"
            )
