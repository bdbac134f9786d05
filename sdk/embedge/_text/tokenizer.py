"""Prompts to token ids, a chunk at a time: truncation, stored prompts, pairs, token ids given."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from embedge._text.cutting import Truncation, too_long
from embedge._text.encodings import WHOLE_CHARS, TextTokenizer
from embedge._text.leading import Leads
from embedge._text.prompts import check_token_ids, empty_prompt
from embedge._text.surroundings import Around, Shared
from embedge._text.tokens import Encoded, EncodedRows
from embedge._workers import Waited
from embedge._workers import start as begin
from embedge.manifest import TemplateSpec, TokenizerSpec
from embedge.types import ParsedPrompt, Side

if TYPE_CHECKING:
    from tokenizers import Encoding

TEXTS_PER_CALL = 1024
_IDS = attrgetter("ids")
_FEW = 16
"""Up to here a list costs less than the arrays would save."""


class PromptTokenizer:
    """A bundle's tokenizer with the limits of its model; safe to share between threads.

    Args:
        content: of tokenizer.json.
        spec: the manifest's facts about it.
        vocab_size: token ids must be below this.
        max_seq_len: limit in tokens, specials included.
        message: that every text is put into, with a stored prompt as its instruction; None puts a prompt before it.
        parallel, foreign: see TextTokenizer.
        texts_per_call: texts that the tokenizers package is given at once; each of their tokens takes about 130 bytes
            until it is taken over.

    Attributes:
        message, spec: see above.
        texts: what calls the tokenizers package.
        truncation: what is done with prompts that are too long.

    Raises:
        BundleError, SessionError: see TextTokenizer.
    """

    def __init__(
        self,
        content: bytes,
        spec: TokenizerSpec,
        *,
        vocab_size: int,
        max_seq_len: int,
        message: TemplateSpec | None = None,
        parallel: bool = True,
        texts_per_call: int = TEXTS_PER_CALL,
        foreign: bool = False,
    ) -> None:
        how = {"parallel": parallel, "split_special_tokens": spec.split_special_tokens, "foreign": foreign}
        self.texts = TextTokenizer(content, **how)
        self.leads = Leads()
        self._vocab_size = vocab_size
        self._parallel = parallel
        self._texts_per_call = texts_per_call
        self.message = message
        self.spec = spec
        self.truncation = Truncation(
            max_seq_len=max_seq_len,
            prefix_ids=list(spec.prefix_ids),
            suffix_ids=list(spec.suffix_ids),
            side=spec.truncation_side,
            segments=spec.segments,
        )
        self.around = Around(message, self.texts, self.truncation)

    def check_limit(self, limit: int | None) -> None:
        """Refuse a truncate_prompt_tokens that this model cannot serve.

        Raises:
            ParamsError: see Truncation.check.
        """
        self.truncation.check(limit)

    def encode(
        self,
        prompts: Sequence[ParsedPrompt],
        limits: Sequence[int | None],
        *,
        truncation_side: Side | None = None,
        stored_prompt: str = "",
        with_offsets: bool = False,
    ) -> Sequence[Encoded]:
        """Tokenise prompts and apply each one's truncation.

        Args:
            prompts: parsed prompts.
            limits: truncate_prompt_tokens of each prompt.
            truncation_side: side that is dropped; None drops the left for k >= 1 and the tokenizer's own for -1.
            stored_prompt: text put before every text prompt, or into the model's template; token ids stand as they
                are.
            with_offsets: fill Encoded.offsets for text prompts.

        Raises:
            PromptError: a prompt is too long and not to be truncated, holds no token or an id outside the vocabulary.
            ParamsError: a limit is out of range.
        """
        if (most := self.spec.max_chars) is not None:
            prompts = [
                prompt[:most] if limit == -1 and isinstance(prompt, str) else prompt
                for prompt, limit in zip(prompts, limits, strict=True)
            ]
        shared = self.around.of(stored_prompt, with_offsets=with_offsets)
        for limit in set(limits):
            shared.truncation.check(limit)
        if len(prompts) <= min(_FEW, self._texts_per_call):
            encodings = self._chunk(prompts, 0, shared, limits, truncation_side)
            return self._fitted(encodings, prompts, limits, 0, truncation_side, shared)
        only_texts = not with_offsets and set(map(type, prompts)) == {str}
        parts = []
        with contextlib.closing(self._tokenise(prompts, shared, limits, truncation_side)) as tokenised:
            for start, encodings in tokenised:
                end = start + self._texts_per_call
                if only_texts:
                    parts.append(self._rows(encodings, limits[start:end], start, truncation_side, shared))
                    continue
                fitted = self._fitted(
                    encodings, prompts[start:end], limits[start:end], start, truncation_side, shared
                )
                parts.append(EncodedRows.of(fitted))
        return EncodedRows.concatenate(parts)

    def whole(
        self, prompts: Sequence[ParsedPrompt], stored_prompt: str = "", *, with_offsets: bool = False
    ) -> Generator[Encoded, None, None]:
        """Tokenise prompts and cut none. Close the generator to stop early.

        Args:
            prompts: texts and token ids; a pair is refused before.
            stored_prompt: as in `encode`.
            with_offsets: as in `encode`.

        Raises:
            PromptError: a prompt holds no token or an id outside the vocabulary.
        """
        shared = self.around.of(stored_prompt, with_offsets=with_offsets)
        with contextlib.closing(self._tokenise(prompts, shared)) as tokenised:
            for start, encodings in tokenised:
                texts = iter(encodings)
                for index, prompt in enumerate(prompts[start : start + self._texts_per_call], start):
                    yield self._whole(prompt, texts, index, shared)

    def _rows(
        self,
        encodings: list[Encoding],
        limits: Sequence[int | None],
        first: int,
        side: Side | None,
        shared: Shared,
    ) -> EncodedRows:
        """Many texts at once, with no object per text or token that outlives it; takes the encodings over."""
        counts = np.fromiter(map(len, encodings), dtype=np.int32, count=len(encodings))
        token_ids = np.fromiter(
            chain.from_iterable(map(_IDS, encodings)), dtype=np.int32, count=int(counts.sum())
        )
        # a text's encoding is many times the size of its ids, and would be walked by the garbage collector
        encodings.clear()
        if not counts.all():
            raise empty_prompt(first + int(np.argmin(counts)))
        rows = EncodedRows.whole(token_ids, counts, shared.num_prompt_tokens)
        truncation = shared.truncation
        rooms = np.array(
            list(map(truncation.room, limits)) if len(set(limits)) > 1 else truncation.room(limits[0])
        )
        if truncation.puts_back:
            for end in (rows.starts + counts)[counts >= rooms].tolist():
                token_ids[end - len(truncation.suffix_ids) : end] = truncation.suffix_ids
        long = np.flatnonzero(counts > rooms)
        if not len(long):
            return rows
        dropped = np.array(
            [
                truncation.dropped(token_ids[start : start + count], limits[i], side, first + i)
                for i, start, count in zip(
                    long.tolist(), rows.starts[long].tolist(), counts[long].tolist(), strict=True
                )
            ]
        )
        return rows.without(long, dropped[:, 0], dropped[:, 1])

    def _tokenise(
        self,
        prompts: Sequence[ParsedPrompt],
        shared: Shared,
        limits: Sequence[int | None] | None = None,
        side: Side | None = None,
    ) -> Generator[tuple[int, list[Encoding]], None, None]:
        """Chunks of prompts as the tokenizer gives their texts, each with its first prompt's index.

        While one chunk is used, the next is tokenised in another thread, which the tokenizers package lets run; with
        many cores what is left to Python takes about as long.
        """
        ahead: Waited[list[Encoding]] | None = None
        try:
            for start in range(0, len(prompts), self._texts_per_call):
                encodings = self._chunk(prompts, start, shared, limits, side) if ahead is None else ahead()
                ahead = None
                following = start + self._texts_per_call
                if self._parallel and following < len(prompts):
                    ahead = begin(partial(self._chunk, prompts, following, shared, limits, side))
                yield start, encodings
        finally:
            # an earlier prompt was refused, so that what is wrong with later ones no longer matters
            if ahead is not None:
                ahead.abandon()

    def _chunk(
        self,
        prompts: Sequence[ParsedPrompt],
        start: int,
        shared: Shared,
        limits: Sequence[int | None] | None,
        side: Side | None,
    ) -> list[Encoding]:
        """A chunk's texts as the tokenizer gives them; with limits, very long ones perhaps without what is cut."""
        given: list[tuple[int, str | tuple[str, str]]] = []
        for index, prompt in enumerate(prompts[start : start + self._texts_per_call], start):
            if isinstance(prompt, list):
                check_token_ids(prompt, self._vocab_size, index)
            else:
                given.append((index, prompt))
        texts = [shared.put(prompt) for _, prompt in given]
        how = {"with_offsets": shared.with_offsets, "special_tokens": shared.special_tokens}
        if limits is None or max(map(len, texts), default=0) <= WHOLE_CHARS:
            return self.texts.encode(texts, given, **how)
        truncation = shared.truncation
        own = [limits[index] for index, _ in given]
        rooms = [truncation.room(limit) for limit in own]
        # the end of a text is looked at only where nothing is put around it
        whole = bool(shared.before or shared.after)
        sides = [truncation.side_of(limit, side) for limit in own]
        encodings, short = self.texts.encode_for(
            texts,
            [None if whole and each == "left" else room for room, each in zip(rooms, sides, strict=True)],
            sides,
            given,
            **how,
        )
        for position in sorted(short):
            if own[position] is None:
                size = f"more than {len(encodings[position].ids)} tokens"
                raise too_long(f"prompt {given[position][0]}", size, rooms[position], given[position][0])
        return encodings

    def _fitted(
        self,
        encodings: Sequence[Encoding],
        prompts: Sequence[ParsedPrompt],
        limits: Sequence[int | None],
        first: int,
        side: Side | None,
        shared: Shared,
    ) -> list[Encoded]:
        texts = iter(encodings)
        fitted = []
        for index, (prompt, limit) in enumerate(zip(prompts, limits, strict=True), first):
            if isinstance(prompt, tuple):
                what = f"prompt {index}"
                fitted.append(self.truncation.fit_pair(next(texts), limit, "longest_first", what, index))
            else:
                whole = self._whole(prompt, texts, index, shared)
                truncation = self.truncation if isinstance(prompt, list) else shared.truncation
                fitted.append(truncation.fit(whole, limit, side, index))
        return fitted

    def _whole(self, prompt: ParsedPrompt, texts: Iterator[Encoding], index: int, shared: Shared) -> Encoded:
        """One prompt; a text's tokens are the next ones."""
        if isinstance(prompt, list):
            return Encoded(token_ids=prompt)
        encoding = next(texts)
        token_ids = encoding.ids
        if not token_ids:
            raise empty_prompt(index)
        offsets = shared.offsets(encoding.offsets, prompt) if shared.with_offsets else None
        return Encoded(token_ids=token_ids, offsets=offsets, num_prompt_tokens=shared.num_prompt_tokens)
