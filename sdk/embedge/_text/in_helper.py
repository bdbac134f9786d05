"""A tokenizer that no export wrote, in a helper process: the methods of the tokenizers package that are used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from embedge._helper.process import MIB, First, Helper
from embedge._text.helper import Answers, EncodeTexts, LoadTokenizer, NameTokens, Tokens
from embedge._workers import interruptibly
from embedge.errors import BundleError
from embedge.manifest import TOKENIZER_FILE

_SPARE_MIB = 1024
"""For the interpreter and a call's texts, besides what a tokenizer takes for each byte of its file."""
_TIMES = 16


class HelperTokenizer:
    """Stands where a Tokenizer of the tokenizers package would.

    Args:
        content: of tokenizer.json.
        split_special_tokens: see TokenizerSpec.

    Raises:
        BundleError: tokenizers cannot read the file, or does not come to an end with it.
        SessionError: no process can be begun.
        DeviceMemoryError: it takes more memory than it may.
    """

    def __init__(self, content: bytes, *, split_special_tokens: bool) -> None:
        def first() -> First:
            return First(
                LoadTokenizer(content, split_special_tokens), _SPARE_MIB * MIB + _TIMES * len(content)
            )

        self._helper = Helper(TOKENIZER_FILE, "embedge._text.helper", Answers, first, error=BundleError)
        interruptibly(self._helper.load)

    def encode_batch(
        self, texts: Sequence[str | tuple[str, str]], *, add_special_tokens: bool, with_offsets: bool = True
    ) -> list[Tokens]:
        """See the tokenizers package.

        Raises:
            TypeError: a text is not valid Unicode.
            BundleError, SessionError, DeviceMemoryError: as for the class.
        """
        for text in texts:
            _check_unicode(text)

        def check(answer: Answers) -> bool:
            return len(answer.tokens) == len(texts) and all(
                len(each.ids) == len(each.type_ids) == len(each.sequence_ids) == len(each.offsets)
                for each in answer.tokens
            )

        asked = EncodeTexts(list(texts), add_special_tokens, with_offsets)
        return interruptibly(partial(self._helper.ask, asked, f"with {len(texts)} texts", check)).tokens

    def encode_batch_fast(
        self, texts: Sequence[str | tuple[str, str]], *, add_special_tokens: bool
    ) -> list[Tokens]:
        """The same without offsets."""
        return self.encode_batch(texts, add_special_tokens=add_special_tokens, with_offsets=False)

    def encode(self, text: str, *, add_special_tokens: bool) -> Tokens:
        """One text."""
        return self.encode_batch([text], add_special_tokens=add_special_tokens)[0]

    def id_to_token(self, token_id: int) -> str | None:
        """See the tokenizers package."""

        def check(answer: Answers) -> bool:
            return len(answer.names) == 1

        asked = partial(self._helper.ask, NameTokens([token_id]), "with a token", check)
        return interruptibly(asked).names[0]


def _check_unicode(text: str | tuple[str, str]) -> None:
    try:
        for side in (text,) if isinstance(text, str) else text:
            side.encode()
    except UnicodeEncodeError as error:
        raise TypeError("no valid Unicode") from error
