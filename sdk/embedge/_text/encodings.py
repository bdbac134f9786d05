"""Texts as the tokenizers package encodes them; its only importer."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from embedge._cancelling import check_call
from embedge._lifetime import outside_python
from embedge._text.cuts import Cuts, cuts_of
from embedge._text.prompts import check_text
from embedge._workers import interruptibly
from embedge.errors import BundleError
from embedge.manifest import TOKENIZER_FILE
from embedge.types import Side

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_CHARS_PER_CALL = 2**17
"""Limit on the characters of a call, which nothing ends: a tenth of a second."""
WHOLE_CHARS = 2**13
"""Texts up to here are tokenised whole, so that the number of tokens that are cut is exact."""
_FAR_CHARS = 2**14
"""Without a place for a cut for so long, a text is not made of words."""
_CHARS_PER_TOKEN = 8
"""More than almost every text has on average; one that has more is looked at again."""


class TextTokenizer:
    """A bundle's tokenizer, without truncation and padding; safe to share between threads.

    Args:
        content: of tokenizer.json.
        parallel: let the tokenizers package use all processors for a batch; it knows of no limit but its own variable
            TOKENIZERS_PARALLELISM.
        split_special_tokens: see TokenizerSpec; tokenizer.json cannot state it.
        foreign: no export wrote it; a helper process reads it.

    Raises:
        BundleError: tokenizers cannot read the file.
        SessionError: it is foreign, and no process can be begun.
    """

    def __init__(
        self, content: bytes, *, parallel: bool, split_special_tokens: bool = False, foreign: bool = False
    ) -> None:
        self._tokenizer: Tokenizer
        if foreign:
            from embedge._text.in_helper import HelperTokenizer

            helper = HelperTokenizer(content, split_special_tokens=split_special_tokens)
            self._tokenizer = cast("Tokenizer", helper)  # it has the methods that are used here
        else:
            self._tokenizer = open_tokenizer(content, split_special_tokens=split_special_tokens)
        self._foreign = foreign
        self._parallel = parallel or foreign

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Pieces of text as the vocabulary has them; an id that it lacks is given as its number."""
        named = map(self._tokenizer.id_to_token, token_ids)
        return [str(i) if token is None else token for i, token in zip(token_ids, named, strict=True)]

    def encode(
        self,
        texts: Sequence[str | tuple[str, str]],
        given: Sequence[tuple[int, str | tuple[str, str]]] | None = None,
        *,
        with_offsets: bool = False,
        special_tokens: bool = True,
    ) -> list[Encoding]:
        """Texts or pairs as the tokenizer gives them, never cut.

        Args:
            texts: what is tokenised.
            given: index and text of each as the caller knows them, for errors; None where they are the same.
            with_offsets: count characters, which costs time.
            special_tokens: put the tokenizer's own around them.

        Raises:
            PromptError: a text is not valid Unicode.
        """
        encode = self._tokenizer.encode_batch if with_offsets else self._tokenizer.encode_batch_fast

        def encoded(some: Sequence[str | tuple[str, str]]) -> list[Encoding]:
            check_call()
            with outside_python():
                if self._parallel:
                    return encode(some, add_special_tokens=special_tokens)
                return [encode([text], add_special_tokens=special_tokens)[0] for text in some]

        try:
            sizes = [len(text) if isinstance(text, str) else len(text[0]) + len(text[1]) for text in texts]
            if sum(sizes) <= _CHARS_PER_CALL:
                return encoded(texts)
            found: list[Encoding] = []
            for part in _parts(sizes):
                some = texts[part]
                alone = sum(sizes[part]) > _CHARS_PER_CALL
                # a text that is not cut cannot be given up once it has begun, only left to itself
                found += interruptibly(partial(encoded, some), leave=True) if alone else encoded(some)
            return found
        except TypeError:
            for index, text in given or enumerate(texts):
                for side in [text] if isinstance(text, str) else text:
                    check_text(side, index)
            raise  # pragma: no cover (tokenizers takes every other text)
        except BaseException as error:
            if not _is_foreign(error):
                raise
            raise BundleError(
                f"{TOKENIZER_FILE} failed on a text: {str(error)[:200]}. Export the model again."
            ) from error

    def encode_for(
        self,
        texts: Sequence[str | tuple[str, str]],
        rooms: Sequence[int | None],
        sides: Sequence[Side],
        given: Sequence[tuple[int, str | tuple[str, str]]] | None = None,
        *,
        with_offsets: bool = False,
        special_tokens: bool = True,
    ) -> tuple[list[Encoding], set[int]]:
        """As `encode`, but of very long texts only so much that the tokens that are kept are those of the whole.

        Args:
            texts: what is tokenised; pairs are tokenised whole.
            rooms: tokens that are kept of each text, special ones included; None: all.
            sides: from which each text is cut.
            given: see `encode`.
            with_offsets: see `encode`; texts that are cut from the left are tokenised whole then.
            special_tokens: see `encode`.

        Returns:
            What the tokenizer gives, more than is kept of each text that was shortened; and which ones were.
        """
        if not with_offsets:
            texts = [
                text if room is None or not isinstance(text, str) else self._without_endless_words(text, room)
                for text, room in zip(texts, rooms, strict=True)
            ]
        parts = [
            text
            if room is None or not isinstance(text, str) or (side == "left" and with_offsets)
            else self.part(text, room, side)
            for text, room, side in zip(texts, rooms, sides, strict=True)
        ]
        short = {i for i, (part, text) in enumerate(zip(parts, texts, strict=True)) if len(part) < len(text)}
        encode = partial(self.encode, with_offsets=with_offsets, special_tokens=special_tokens)
        encodings = encode(parts, given)
        for index in sorted(short):
            text, room, side = texts[index], rooms[index], sides[index]
            assert isinstance(text, str)
            assert room is not None
            size = _CHARS_PER_TOKEN * room
            while index in short and len(encodings[index].ids) <= room:
                size *= 2
                part = self._part(text, size, side)
                if len(part) == len(text):
                    short.discard(index)
                encodings[index] = encode([part], given and [given[index]])[0]
        return encodings, short

    def part(self, text: str, room: int, side: Side) -> str:
        """The beginning or end of a very long text that likely has more tokens than a room; else all of it.

        Args:
            text: what is tokenised.
            room: tokens that are kept of it.
            side: from which it is cut.
        """
        size = _CHARS_PER_TOKEN * room
        return text if len(text) <= max(WHOLE_CHARS, 2 * size) else self._part(text, size, side)

    def _without_endless_words(self, text: str, room: int) -> str:
        """A text with the same tokens; where no cut comes for long, words are looked at that are one token each."""
        size = _CHARS_PER_TOKEN * room
        far = size + _FAR_CHARS
        if self._cuts is None or len(text) <= max(WHOLE_CHARS, far):
            return text
        comes_soon = len(self._cuts.beginning(text[:far], size)) < far
        return text if comes_soon else self._cuts.without_endless_words(text)

    def _part(self, text: str, size: int, side: Side) -> str:
        cuts = self._cuts
        if cuts is None:
            return text
        if side == "right":
            return cuts.beginning(text, size)
        return cuts.end(text, size) if cuts.ends else text

    @functools.cached_property
    def _cuts(self) -> Cuts | None:
        return None if self._foreign else cuts_of(self._tokenizer)

    def ids_without_specials(self, text: str) -> list[int]:
        """Token ids of a fixed text, e.g. a template's prefix."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def open_tokenizer(content: bytes, *, split_special_tokens: bool) -> Tokenizer:
    """Have the tokenizers package read tokenizer.json, and leave out that it truncates and pads.

    Raises:
        BundleError: it cannot.
    """
    from tokenizers import Tokenizer

    try:
        with outside_python():
            tokenizer = Tokenizer.from_buffer(content)
    except BaseException as error:  # it raises Exception and ValueError, or what a panic in Rust becomes
        if not (isinstance(error, Exception) or _is_foreign(error)):
            raise
        raise BundleError(
            f"{TOKENIZER_FILE} cannot be read by tokenizers: {error}. Export the model again."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = split_special_tokens
    return tokenizer


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Runs of texts that are given at once: together no more than may be, or a single one."""
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and total + size > _CHARS_PER_CALL:
            yield slice(start, index)
            start, total = index, 0
        total += size
    yield slice(start, len(sizes))


def _is_foreign(error: BaseException) -> bool:
    """Whether the tokenizers package raised it: a panic is no Exception, and its class has no door."""
    return type(error) is Exception or type(error).__name__ == "PanicException"
