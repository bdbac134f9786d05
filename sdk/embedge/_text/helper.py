"""A tokenizer that no export wrote, as its helper process loads it and asks it."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge._helper.messages import Done, Failed


class LoadTokenizer(msgspec.Struct, frozen=True, tag=True):
    """The first message: content of tokenizer.json, and see TokenizerSpec."""

    content: bytes
    split_special_tokens: bool


class EncodeTexts(msgspec.Struct, frozen=True, tag=True):
    """Tokenise texts or pairs."""

    texts: list[str | tuple[str, str]]
    special_tokens: bool
    with_offsets: bool


class NameTokens(msgspec.Struct, frozen=True, tag=True):
    """Say which pieces of text these are."""

    token_ids: list[int]


class Tokens(msgspec.Struct, frozen=True, array_like=True):
    """A text or pair, as Encoding of the tokenizers package has it."""

    ids: list[int]
    type_ids: list[int]
    sequence_ids: list[int | None]
    offsets: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.ids)


class Answers(msgspec.Struct, frozen=True, tag=True):
    """What was asked for, in order."""

    tokens: list[Tokens] = []
    names: list[str | None] = []


REQUESTS = LoadTokenizer | EncodeTexts | NameTokens


class Served:
    """The tokenizer of the first message."""

    def __init__(self) -> None:
        self._tokenizer: Any = None

    def answer(self, request: LoadTokenizer | EncodeTexts | NameTokens) -> Done | Answers | Failed:
        """What came of a message."""
        from embedge._text.encodings import open_tokenizer

        if isinstance(request, LoadTokenizer):
            self._tokenizer = open_tokenizer(
                request.content, split_special_tokens=request.split_special_tokens
            )
            return Done()
        if isinstance(request, NameTokens):
            return Answers(names=[self._tokenizer.id_to_token(each) for each in request.token_ids])
        encode = self._tokenizer.encode_batch if request.with_offsets else self._tokenizer.encode_batch_fast
        found = encode(request.texts, add_special_tokens=request.special_tokens)
        return Answers(
            tokens=[Tokens(each.ids, each.type_ids, each.sequence_ids, each.offsets) for each in found]
        )
