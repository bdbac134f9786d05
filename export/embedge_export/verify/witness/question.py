"""A question to both the bundle and the checkpoint's own library, and the texts that they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import msgspec

from embedge import EdgeModel
from embedge.errors import PromptError
from embedge.measure import count_tokens
from embedge.types import FloatArray
from embedge_export.source.checkpoint import Checkpoint, weight_sizes
from embedge_export.spec import ExportSpec
from embedge_export.texts.built_in import PAIRS, TEXTS
from embedge_export.verify.witness.library import Door

Rows: TypeAlias = Sequence[FloatArray] | FloatArray
"""One row or matrix per text or pair."""

ALONE = 1
"""Texts of a batch of the library's: padding on the left moves the positions of encoders, so that texts would matter to
each other."""
_SHORT_CHARS = 400
_LARGE_BYTES = 600e6
_NUM_TEXTS, _NUM_TEXTS_OF_LARGE = 24, 8
_FEW, _FEW_OF_LARGE = 6, 2
_LONGEST_TOKENS = 512
"""A text beyond the limit is computed where the limit is no larger: on two cores 8,192 tokens take a minute."""
_MOST_TOKENS = 131_072
_LONG_WORDS = "plants turn light, water and carbon dioxide into sugar and oxygen"


class Question(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One thing that both are asked.

    Attributes:
        words: what it is.
        library: the library's answers, one per text.
        bundle: the bundle's.
    """

    words: str
    library: Callable[[], Rows]
    bundle: Callable[[], Rows]


class Both(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Who is asked.

    Attributes:
        door: class of the library.
        library: an instance of it.
        model: the bundle.
        checkpoint: what both were made of.
        spec: what the caller stated against its files.
    """

    door: Door
    library: Any
    model: EdgeModel
    checkpoint: Checkpoint
    spec: ExportSpec

    @property
    def encode(self) -> Callable[..., Any]:
        """How the library embeds texts: by its encode, or as the tower's texts are."""
        tower = self.checkpoint.tower
        if tower in ("query", "document"):
            return cast("Callable[..., Any]", getattr(self.library, f"encode_{tower}"))
        return partial(self.library.encode, **self.route)

    @property
    def route(self) -> dict[str, str]:
        """The task that leads the library to the tower, where it has towers."""
        return {} if self.checkpoint.tower is None else {"task": self.checkpoint.tower}

    @property
    def few(self) -> int:
        """How many texts are enough where only a prompt differs."""
        return _FEW_OF_LARGE if self._is_large else _FEW

    @property
    def is_too_long_to_compute(self) -> bool:
        """A text beyond the limit is only tokenised."""
        return _LONGEST_TOKENS < self.model.info.max_seq_len <= _MOST_TOKENS

    def too_long(self) -> str:
        """A text beyond the limit."""
        return " ".join([_LONG_WORDS] * (self.model.info.max_seq_len // 6))

    def texts(self) -> list[str]:
        """Those that leave the tokenizer a token, one of them beyond the limit."""
        short = [text for text in TEXTS if len(text) < _SHORT_CHARS]
        chosen = short[:: max(1, len(short) // self._num_texts)]
        if self.model.info.max_seq_len <= _LONGEST_TOKENS:
            chosen.append(self.too_long())
        return [text for text in chosen if self._has_tokens(text)]

    def classified(self) -> list[str]:
        """Those that are not blank, and do not hold the padding token, which transformers take for padding."""
        return [text for text in self.texts() if text.strip() and not self._holds_padding(text)]

    def pairs(self) -> tuple[list[str], list[str]]:
        """Queries and documents, likewise."""
        chosen = [pair for pair in PAIRS if not self._holds_padding(pair[1])]
        chosen = chosen[:: max(1, len(chosen) // self._num_texts)]
        return [query for query, _ in chosen], [document for _, document in chosen]

    @property
    def _is_large(self) -> bool:
        return sum(weight_sizes(self.checkpoint).values()) > _LARGE_BYTES

    @property
    def _num_texts(self) -> int:
        return _NUM_TEXTS_OF_LARGE if self._is_large else _NUM_TEXTS

    def _holds_padding(self, text: str) -> bool:
        padding = getattr(self.library.tokenizer, "pad_token", None)
        return padding is not None and str(padding) in text

    def _has_tokens(self, text: str) -> bool:
        try:
            return int(count_tokens(self.model, [text])[0]) > 0
        except PromptError:
            return False
