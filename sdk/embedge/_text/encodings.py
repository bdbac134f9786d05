"""Texts as the tokenizers package encodes them; its only importer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedge._lifetime import outside_python
from embedge._text.prompts import check_text
from embedge.errors import BundleError
from embedge.manifest import TOKENIZER_FILE

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


class TextTokenizer:
    """A bundle's tokenizer, without truncation and padding; safe to share between threads.

    Args:
        content: of tokenizer.json.
        parallel: let the tokenizers package use all processors for a batch; it knows of no limit but its own variable
            TOKENIZERS_PARALLELISM.
        split_special_tokens: see TokenizerSpec; tokenizer.json cannot state it.

    Raises:
        BundleError: tokenizers cannot read the file.
    """

    def __init__(self, content: bytes, *, parallel: bool, split_special_tokens: bool = False) -> None:
        from tokenizers import Tokenizer

        try:
            with outside_python():
                self._tokenizer: Tokenizer = Tokenizer.from_buffer(content)
        except (
            BaseException
        ) as error:  # tokenizers raises Exception and ValueError, or what a panic in Rust becomes
            if not (isinstance(error, Exception) or _is_foreign(error)):
                raise
            raise BundleError(
                f"{TOKENIZER_FILE} cannot be read by tokenizers: {error}. Export the model again."
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = split_special_tokens
        self._parallel = parallel

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
        try:
            with outside_python():
                if self._parallel:
                    return encode(texts, add_special_tokens=special_tokens)
                return [encode([text], add_special_tokens=special_tokens)[0] for text in texts]
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

    def ids_without_specials(self, text: str) -> list[int]:
        """Token ids of a fixed text, e.g. a template's prefix."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def _is_foreign(error: BaseException) -> bool:
    """Whether the tokenizers package raised it: a panic is no Exception, and its class has no door."""
    return type(error) is Exception or type(error).__name__ == "PanicException"
