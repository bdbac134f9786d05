"""Prompts to token ids: special tokens, truncation, pairs. The only importer of tokenizers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from embedge._text.cutting import dropped_tokens, kept_positions, kept_tokens
from embedge._text.prompts import check_text
from embedge._text.tokens import Encoded, EncodedRows, SmallInts
from embedge._workers import start as begin
from embedge.errors import BundleError, ParamsError, PromptError
from embedge.manifest import TokenizerSpec
from embedge.types import PairTruncation, ParsedPrompt, Side

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TEXTS_PER_CALL = 1024
_IDS = attrgetter("ids")
_FEW = 16
"""Up to here a list costs less than the arrays would save."""


class PromptTokenizer:
    """A bundle's tokenizer with the limits of its model; safe to share between threads.

    Args:
        file: tokenizer.json.
        spec: the manifest's facts about it.
        vocab_size: token ids must be below this.
        max_seq_len: limit in tokens, specials included.
        parallel: let the tokenizers package use all processors for a batch; it knows of no limit but its own variable
            TOKENIZERS_PARALLELISM.
        texts_per_call: how many texts it is given at once; until they are taken over, each of their tokens takes about
            130 bytes.

    Raises:
        BundleError: tokenizers cannot read the file.
    """

    def __init__(
        self,
        file: Path,
        spec: TokenizerSpec,
        *,
        vocab_size: int,
        max_seq_len: int,
        parallel: bool = True,
        texts_per_call: int = TEXTS_PER_CALL,
    ) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(
                f"{file} cannot be read by tokenizers: {error}. Export the model again."
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.spec = spec
        self._prefix = list(spec.prefix_ids)
        self._suffix = list(spec.suffix_ids)
        self._vocab_size = vocab_size
        self._parallel = parallel
        self._texts_per_call = texts_per_call
        self.max_seq_len = max_seq_len

    def check_limit(self, limit: int | None) -> None:
        """Refuse a truncate_prompt_tokens that this model cannot serve.

        Raises:
            ParamsError: 0, below -1, above max_seq_len, or too few for the special tokens.
        """
        fewest = max(1, len(self._prefix) + len(self._suffix))
        if limit is not None and limit != -1 and not fewest <= limit <= self.max_seq_len:
            raise ParamsError(
                f"truncate_prompt_tokens={limit} is out of range; expected None, -1, or {fewest} to "
                f"{self.max_seq_len}, of which {len(self._prefix) + len(self._suffix)} are special tokens"
            )

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
            stored_prompt: text put before every text prompt; token ids stand as they are.
            with_offsets: fill Encoded.offsets for text prompts.

        Raises:
            PromptError: a prompt is too long and not to be truncated, holds no token or an id outside the vocabulary.
            ParamsError: a limit is out of range.
        """
        for limit in set(limits):
            self.check_limit(limit)
        leading = len(self._content_prefix(stored_prompt)) if stored_prompt else 0
        only_texts = not with_offsets and len(prompts) > _FEW and set(map(type, prompts)) == {str}
        parts = []
        with contextlib.closing(self._tokenise(prompts, stored_prompt, with_offsets)) as tokenised:
            for start, encodings in tokenised:
                end = start + self._texts_per_call
                if only_texts:
                    parts.append(self._rows(encodings, limits[start:end], start, leading, truncation_side))
                    continue
                chunk = self._encode(
                    encodings,
                    prompts[start:end],
                    limits[start:end],
                    start,
                    stored_prompt,
                    leading,
                    with_offsets,
                )
                shortest = self._room(
                    min((x for x in limits[start:end] if x not in (None, -1)), default=None)
                )
                fitted = [
                    e
                    if len(e.token_ids) <= shortest or isinstance(prompts[i], tuple)
                    else self.fit(e, limits[i], truncation_side, i)
                    for i, e in enumerate(chunk, start)
                ]
                if len(prompts) <= _FEW:
                    return fitted
                parts.append(EncodedRows.of(fitted))
        return EncodedRows.concatenate(parts) if parts else []

    def _rows(
        self,
        encodings: list[Encoding],
        limits: Sequence[int | None],
        first: int,
        num_prompt_tokens: int,
        side: Side | None,
    ) -> EncodedRows:
        """Many texts at once, with no object per text or token that outlives it; takes the encodings over."""
        lens = np.fromiter(map(len, encodings), dtype=np.int32, count=len(encodings))
        token_ids = np.fromiter(
            chain.from_iterable(map(_IDS, encodings)), dtype=np.int32, count=int(lens.sum())
        )
        # a text's encoding is many times the size of its ids, and would be walked by the garbage collector
        encodings.clear()
        if not lens.all():
            raise _empty(first + int(np.argmin(lens)))
        rows = EncodedRows.whole(token_ids, lens, num_prompt_tokens)
        rooms = [self._room(limit) for limit in limits] if len(set(limits)) > 1 else self._room(limits[0])
        long = np.flatnonzero(lens > rooms)
        if not len(long):
            return rows
        dropped = np.array(
            [
                self._dropped(token_ids[start : start + count], limits[i], side, first + i)
                for i, start, count in zip(
                    long.tolist(), rows.starts[long].tolist(), lens[long].tolist(), strict=True
                )
            ]
        )
        return rows.without(long, dropped[:, 0], dropped[:, 1])

    def _tokenise(
        self, prompts: Sequence[ParsedPrompt], stored_prompt: str, with_offsets: bool
    ) -> Generator[tuple[int, list[Encoding]], None, None]:
        """Chunks of prompts as the tokenizer gives their texts, each with its first prompt's index.

        While one chunk is used, the next is tokenised in another thread, which the tokenizers package lets run; with
        many cores what is left to Python takes about as long.
        """

        def tokenise(start: int) -> list[Encoding]:
            given: list[tuple[int, str | tuple[str, str]]] = []
            for index, prompt in enumerate(prompts[start : start + self._texts_per_call], start):
                if isinstance(prompt, list):
                    self._check_token_ids(prompt, index)
                else:
                    given.append((index, prompt))
            texts = [
                stored_prompt + prompt if stored_prompt and isinstance(prompt, str) else prompt
                for _, prompt in given
            ]
            return self.encode_texts(texts, given, with_offsets=with_offsets)

        ahead: Callable[[], list[Encoding]] | None = None
        try:
            for start in range(0, len(prompts), self._texts_per_call):
                wait, ahead = ahead or partial(tokenise, start), None
                encodings = wait()
                following = start + self._texts_per_call
                if self._parallel and following < len(prompts):
                    ahead = begin(partial(tokenise, following))
                yield start, encodings
        finally:
            # an earlier prompt was refused, so that what is wrong with later ones no longer matters
            if ahead is not None:
                with contextlib.suppress(PromptError):
                    ahead()

    def _encode(
        self,
        tokenised: Sequence[Encoding],
        prompts: Sequence[ParsedPrompt],
        limits: Sequence[int | None],
        first: int,
        stored_prompt: str,
        num_prompt_tokens: int,
        with_offsets: bool,
    ) -> list[Encoded]:
        encodings = iter(tokenised)
        encoded: list[Encoded] = []
        for index, prompt in enumerate(prompts, first):
            if isinstance(prompt, list):
                encoded.append(Encoded(token_ids=prompt))
                continue
            encoding = next(encodings)
            if isinstance(prompt, tuple):
                limit = limits[index - first]
                encoded.append(self.fit_pair(encoding, limit, "longest_first", f"prompt {index}", index))
                continue
            token_ids = encoding.ids
            if not token_ids:
                raise _empty(index)
            offsets = self._offsets(encoding, len(stored_prompt)) if with_offsets else None
            encoded.append(Encoded(token_ids=token_ids, offsets=offsets, num_prompt_tokens=num_prompt_tokens))
        return encoded

    def encode_texts(
        self,
        texts: Sequence[str | tuple[str, str]],
        given: Sequence[tuple[int, str | tuple[str, str]]] | None = None,
        *,
        with_offsets: bool = False,
    ) -> list[Encoding]:
        """Texts or pairs as the tokenizer gives them: with special tokens, never cut.

        Args:
            texts: what is tokenised.
            given: index and text of each as the caller knows them, for errors; None where they are the same.
            with_offsets: count characters, which costs time.

        Raises:
            PromptError: a text is not valid Unicode.
        """
        encode = self._tokenizer.encode_batch if with_offsets else self._tokenizer.encode_batch_fast
        try:
            if self._parallel:
                return cast("list[Encoding]", encode(texts))
            return [encode([text])[0] for text in texts]
        except TypeError:
            for index, text in given or enumerate(texts):
                for side in [text] if isinstance(text, str) else text:
                    check_text(side, index)
            raise  # pragma: no cover (tokenizers takes every other text)

    def ids_without_specials(self, text: str) -> list[int]:
        """Token ids of a fixed text, e.g. a template's prefix."""
        return cast("list[int]", self._tokenizer.encode(text, add_special_tokens=False).ids)

    def windows(self, prompts: Sequence[ParsedPrompt], stored_prompt: str = "") -> list[list[Encoded]]:
        """Cut each prompt into windows of at most max_seq_len tokens, each with special tokens and stored prompt.

        Raises:
            PromptError: as `encode`; or the stored prompt leaves no room.
        """
        leading = len(self._content_prefix(stored_prompt)) if stored_prompt else 0
        windows = []
        with contextlib.closing(self._tokenise(prompts, stored_prompt, with_offsets=False)) as tokenised:
            for start, encodings in tokenised:
                chunk = prompts[start : start + self._texts_per_call]
                limits = [-1] * len(chunk)
                whole = self._encode(
                    encodings, chunk, limits, start, stored_prompt, leading, with_offsets=False
                )
                windows += [self._windows(encoded, index) for index, encoded in enumerate(whole, start)]
        return windows

    def num_text_tokens(self, window: Encoded) -> int:
        """Tokens that are neither special nor of the stored prompt; 1 for an empty text, so that it still counts."""
        prefix, suffix = self._special_lens(window.token_ids)
        return max(1, len(window.token_ids) - max(prefix, window.num_prompt_tokens) - suffix)

    def join(self, windows: Sequence[Encoded]) -> Encoded:
        """The prompt that was cut into these windows."""
        first = windows[0]
        if len(windows) == 1:
            return first
        lead = max(self._special_lens(first.token_ids)[0], first.num_prompt_tokens)
        suffix = self._special_lens(first.token_ids)[1]
        text = [t for window in windows for t in window.token_ids[lead : len(window.token_ids) - suffix]]
        end = first.token_ids[len(first.token_ids) - suffix :]
        return Encoded(
            token_ids=[*first.token_ids[:lead], *text, *end], num_prompt_tokens=first.num_prompt_tokens
        )

    def _windows(self, whole: Encoded, index: int) -> list[Encoded]:
        token_ids = whole.token_ids
        if len(token_ids) <= self.max_seq_len:
            return [whole]
        prefix, suffix = self._special_lens(token_ids)
        lead = max(prefix, whole.num_prompt_tokens)
        room = self.max_seq_len - lead - suffix
        if room < 1:
            raise PromptError(
                f"prompt {index}: the stored prompt and special tokens take {lead + suffix} of "
                f"{self.max_seq_len} tokens, which leaves no room for text. Use a shorter prompt.",
                index=index,
            )
        end = len(token_ids) - suffix
        return [
            Encoded(
                token_ids=token_ids[:lead] + token_ids[start : min(start + room, end)] + token_ids[end:],
                num_prompt_tokens=whole.num_prompt_tokens,
            )
            for start in range(lead, end, room)
        ]

    def _content_prefix(self, stored_prompt: str) -> list[int]:
        encoding = self.encode_texts([stored_prompt])[0]
        return cast("list[int]", encoding.ids[: len(encoding.ids) - len(self._suffix)])

    def _offsets(self, encoding: Encoding, stored_prompt_len: int) -> list[tuple[int, int]]:
        if not stored_prompt_len:
            return cast("list[tuple[int, int]]", encoding.offsets)
        return [
            (max(0, start - stored_prompt_len), max(0, end - stored_prompt_len))
            for start, end in encoding.offsets
        ]

    def _check_token_ids(self, token_ids: list[int], index: int) -> None:
        if min(token_ids) < 0 or max(token_ids) >= self._vocab_size:
            wrong = next(t for t in token_ids if not 0 <= t < self._vocab_size)
            raise PromptError(
                f"prompt {index} holds token id {wrong}; this model's vocabulary has ids 0 to {self._vocab_size - 1}",
                index=index,
            )

    def _room(self, limit: int | None) -> int:
        return self.max_seq_len if limit is None or limit == -1 else limit

    def _special_lens(self, token_ids: list[int] | SmallInts) -> tuple[int, int]:
        first, last = len(self._prefix), len(self._suffix)
        prefix = first if list(token_ids[:first]) == self._prefix else 0
        suffix = last if list(token_ids[len(token_ids) - last :]) == self._suffix else 0
        return prefix, suffix

    def fit(self, whole: Encoded, limit: int | None, side: Side | None, index: int) -> Encoded:
        """Apply truncate_prompt_tokens to one prompt.

        Raises:
            PromptError: it is too long and limit is None.
        """
        token_ids, offsets, num_prompt_tokens = whole.token_ids, whole.offsets, whole.num_prompt_tokens
        if len(token_ids) <= self._room(limit):
            return whole
        start, end = self._dropped(token_ids, limit, side, index)
        return Encoded(
            token_ids=token_ids[:start] + token_ids[end:],
            offsets=None if offsets is None else offsets[:start] + offsets[end:],
            num_truncated=end - start,
            num_prompt_tokens=min(num_prompt_tokens, start) + max(0, num_prompt_tokens - end),
        )

    def _dropped(
        self, token_ids: list[int] | SmallInts, limit: int | None, side: Side | None, index: int
    ) -> tuple[int, int]:
        """Start and end of what has to go from a prompt that is too long."""
        count, room = len(token_ids), self._room(limit)
        if limit is None:
            raise too_long(f"prompt {index}", f"{count} tokens", room, index)
        dropped_side = side or (self.spec.truncation_side if limit == -1 else "left")
        return dropped_tokens(count, room, *self._special_lens(token_ids), dropped_side)

    def fit_pair(
        self, encoding: Encoding, limit: int | None, truncate: PairTruncation, what: str, index: int
    ) -> Encoded:
        """Apply truncate_prompt_tokens to a pair.

        Raises:
            PromptError: it is too long and limit is None, or its query leaves no room for the document.
        """
        token_ids, type_ids, sides = encoding.ids, encoding.type_ids, encoding.sequence_ids
        room = self._room(limit)
        dropped = (0, 0)
        if len(token_ids) > room:
            counts = sides.count(0), sides.count(1)
            specials = len(token_ids) - sum(counts)
            if limit is None:
                alone = f", and its query alone has {counts[0]}" if counts[0] + specials >= room else ""
                raise too_long(what, f"{len(token_ids)} tokens{alone}", room, index)
            kept = kept_tokens(counts, room - specials, truncate)
            if min(kept) < 0 or (truncate == "document" and kept[1] == 0):
                raise PromptError(
                    f"{what}: its query alone has {counts[0]} tokens, and {specials} special tokens come on top; "
                    f"the limit is {room}. Shorten the query, or use truncate='longest_first'.",
                    index=index,
                )
            dropped = counts[0] - kept[0], counts[1] - kept[1]
            positions = kept_positions(sides, kept)
            token_ids = [token_ids[i] for i in positions]
            type_ids = [type_ids[i] for i in positions]
        return Encoded(
            token_ids=token_ids,
            type_ids=type_ids if any(type_ids) else None,
            num_truncated=sum(dropped),
            num_truncated_query=dropped[0],
        )


def _empty(index: int) -> PromptError:
    return PromptError(
        f"prompt {index} is empty: this tokenizer adds no special tokens, so nothing would be left "
        "to pool. Pass a text with at least one token.",
        index=index,
    )


def too_long(what: str, size: str, limit: int, index: int) -> PromptError:
    """The error for a prompt or pair that is longer than the model takes."""
    return PromptError(
        f"{what} has {size}; the model's limit is {limit}. "
        "Pass truncate_prompt_tokens=-1 to cut it to the limit, or shorten the text.",
        index=index,
    )
