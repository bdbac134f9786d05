"""Prompts to token ids: parsing, special tokens, truncation, pairs. The only importer of tokenizers."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from embedge._types import PromptInput, Side
from embedge.errors import BundleError, ParamsError, PromptError
from embedge.manifest import TokenizerSpec

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_PROMPT_FORMS = 'expected text, {"prompt": text}, {"prompt_token_ids": ids} or a list of token ids'
_TEXTS_PER_CALL = 1024
_FIT_ADVICE = "Pass truncate_prompt_tokens=-1 to cut it to the limit, or shorten the text"


class Encoded(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """One prompt or pair as token ids.

    Attributes:
        token_ids: specials included.
        num_truncated: tokens dropped, on both sides of a pair together.
        type_ids: segment of each token of a pair; None where all are 0.
        offsets: start and end character of each token, (0, 0) for specials; only where asked for.
        num_prompt_tokens: leading tokens that belong to the first special tokens and a stored prompt.
    """

    token_ids: list[int]
    num_truncated: int = 0
    type_ids: list[int] | None = None
    offsets: list[tuple[int, int]] | None = None
    num_prompt_tokens: int = 0


def parse_prompts(prompts: PromptInput | Iterable[PromptInput]) -> list[str | list[int]]:
    """Bring every accepted form of prompts to a list of texts and token-id lists.

    Raises:
        PromptError: a prompt of another form; the message and `.index` name it.
    """
    if isinstance(prompts, (str, Mapping)) or _is_token_ids(prompts):
        return [_parse_prompt(prompts, 0)]
    if isinstance(prompts, (bytes, bytearray, set, frozenset)) or not (
        hasattr(prompts, "__len__") and hasattr(prompts, "__iter__")
    ):
        raise PromptError(f"prompts is {_describe(prompts)}; {_PROMPT_FORMS}, or a sequence of these")
    return [
        prompt if type(prompt) is str else _parse_prompt(prompt, index)
        for index, prompt in enumerate(cast("Iterable[PromptInput]", prompts))
    ]


def _parse_prompt(prompt: Any, index: int) -> str | list[int]:
    if isinstance(prompt, str):
        return str(prompt)
    if isinstance(prompt, Mapping):
        if "multi_modal_data" in prompt:
            raise PromptError(
                f"prompt {index} has multi_modal_data; embedge runs text encoders only. Pass the text alone.",
                index=index,
            )
        known = {"prompt", "prompt_token_ids"} & set(prompt)
        if len(known) != 1 or len(prompt) != 1:
            raise PromptError(
                f"prompt {index} is a dict with keys {sorted(map(str, prompt))}; {_PROMPT_FORMS}", index=index
            )
        inner = prompt[known.pop()]
        if isinstance(inner, str) != ("prompt" in prompt):
            raise PromptError(f"prompt {index} holds {_describe(inner)}; {_PROMPT_FORMS}", index=index)
        return _parse_prompt(inner, index)
    if (
        isinstance(prompt, (bytes, bytearray))
        or not hasattr(prompt, "__len__")
        or not hasattr(prompt, "__iter__")
    ):
        raise PromptError(f"prompt {index} is {_describe(prompt)}; {_PROMPT_FORMS}", index=index)
    if len(prompt) == 0:
        raise PromptError(f"prompt {index} is an empty list of token ids; expected at least one", index=index)
    token_ids = []
    for token_id in prompt:
        if isinstance(token_id, bool) or not hasattr(token_id, "__index__"):
            raise PromptError(
                f"prompt {index} is a list that holds {_describe(token_id)}; {_PROMPT_FORMS}", index=index
            )
        token_ids.append(operator.index(token_id))
    return token_ids


def _is_token_ids(prompts: Any) -> bool:
    if (
        isinstance(prompts, (str, bytes, Mapping))
        or not hasattr(prompts, "__len__")
        or not hasattr(prompts, "__iter__")
    ):
        return False
    first = next(iter(prompts), None)
    return (
        first is not None
        and not isinstance(first, bool)
        and hasattr(first, "__index__")
        and not hasattr(first, "__len__")
    )


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"


class PromptTokenizer:
    """A bundle's tokenizer with the limits of its model; safe to share between threads.

    Args:
        file: tokenizer.json.
        spec: the manifest's facts about it.
        vocab_size: token ids must be below this.
        max_seq_len: limit in tokens, specials included.

    Raises:
        BundleError: tokenizers cannot read the file.
    """

    def __init__(self, file: Path, spec: TokenizerSpec, *, vocab_size: int, max_seq_len: int) -> None:
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
        prompts: Sequence[str | list[int]],
        limits: Sequence[int | None],
        *,
        truncation_side: Side | None = None,
        stored_prompt: str = "",
        with_offsets: bool = False,
    ) -> list[Encoded]:
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
        num_prompt_tokens = len(self._content_prefix(stored_prompt)) if stored_prompt else 0
        encoded: list[Encoded] = []
        for start in range(0, len(prompts), _TEXTS_PER_CALL):
            chunk = prompts[start : start + _TEXTS_PER_CALL]
            texts = [(stored_prompt + p if stored_prompt else p) for p in chunk if isinstance(p, str)]
            encodings = iter(self._encode_texts(texts, chunk, start, with_offsets))
            for index, prompt in enumerate(chunk, start):
                if isinstance(prompt, str):
                    encoding = next(encodings)
                    token_ids = encoding.ids
                    offsets = self._offsets(encoding, len(stored_prompt)) if with_offsets else None
                    leading = num_prompt_tokens
                else:
                    self._check_token_ids(prompt, index)
                    token_ids, offsets, leading = prompt, None, 0
                if not token_ids:
                    raise PromptError(
                        f"prompt {index} is empty: this tokenizer adds no special tokens, so nothing would be left "
                        "to pool. Pass a text with at least one token.",
                        index=index,
                    )
                encoded.append(self._fit(token_ids, offsets, leading, limits[index], truncation_side, index))
        return encoded

    def _encode_texts(
        self, texts: list[str], chunk: Sequence[str | list[int]], start: int, with_offsets: bool
    ) -> list[Encoding]:
        if self.spec.lowercase:
            texts = [text.lower() for text in texts]
        encode = self._tokenizer.encode_batch if with_offsets else self._tokenizer.encode_batch_fast
        try:
            return cast("list[Encoding]", encode(texts))
        except TypeError:
            for index, prompt in enumerate(chunk, start):
                if isinstance(prompt, str):
                    check_text(prompt, index)
            raise

    def _content_prefix(self, stored_prompt: str) -> list[int]:
        encoding = self._encode_texts([stored_prompt], [stored_prompt], 0, False)[0]
        suffix = len(self._suffix)
        return cast("list[int]", encoding.ids[: len(encoding.ids) - suffix])

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

    def _fit(
        self,
        token_ids: list[int],
        offsets: list[tuple[int, int]] | None,
        num_prompt_tokens: int,
        limit: int | None,
        side: Side | None,
        index: int,
    ) -> Encoded:
        count = len(token_ids)
        room = self.max_seq_len if limit is None or limit == -1 else limit
        if count <= room:
            return Encoded(token_ids=token_ids, offsets=offsets, num_prompt_tokens=num_prompt_tokens)
        if limit is None:
            raise PromptError(
                f"prompt {index} has {count} tokens; the model's limit is {room}. {_FIT_ADVICE}.", index=index
            )
        prefix = len(self._prefix) if token_ids[: len(self._prefix)] == self._prefix else 0
        suffix = len(self._suffix) if token_ids[count - len(self._suffix) :] == self._suffix else 0
        keep = room - prefix - suffix
        dropped_side = side or (self.spec.truncation_side if limit == -1 else "left")
        start = count - suffix - keep if dropped_side == "left" else prefix
        positions = [*range(prefix), *range(start, start + keep), *range(count - suffix, count)]
        kept_prompt = sum(position < num_prompt_tokens for position in positions)
        return Encoded(
            token_ids=[token_ids[i] for i in positions],
            offsets=None if offsets is None else [offsets[i] for i in positions],
            num_truncated=count - len(positions),
            num_prompt_tokens=kept_prompt if num_prompt_tokens else 0,
        )


def check_text(text: str, index: int) -> None:
    """Refuse text that UTF-8 cannot express.

    Raises:
        PromptError: text holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"prompt {index} is no valid text: {error.reason} at character {error.start}. "
            "Decode the input with errors='replace' first.",
            index=index,
        ) from error
