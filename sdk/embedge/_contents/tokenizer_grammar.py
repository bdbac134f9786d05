"""What tokenizer.json may hold: the components that the tokenizers package writes, with their keys and ranges."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

MOST_PARTS = 64
_ShortText: TypeAlias = Annotated[str, Meta(max_length=1024)]
_Letter: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1)]
_Id: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 31)]
_TypeId: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 16)]
_Optional: TypeAlias = bool | UnsetType


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag=str):
    pass


class Pattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Text or a regular expression; one of both."""

    String: Annotated[str, Meta(max_length=1024)] | UnsetType = UNSET
    Regex: str | UnsetType = UNSET


class BertNormalizer(_Part, frozen=True):
    clean_text: _Optional = UNSET
    handle_chinese_chars: _Optional = UNSET
    strip_accents: bool | UnsetType | None = UNSET
    lowercase: _Optional = UNSET


class NFC(_Part, frozen=True):
    pass


class NFD(_Part, frozen=True):
    pass


class NFKC(_Part, frozen=True):
    pass


class NFKD(_Part, frozen=True):
    pass


class Nmt(_Part, frozen=True):
    pass


class Lowercase(_Part, frozen=True):
    pass


class StripAccents(_Part, frozen=True):
    pass


class Strip(_Part, frozen=True):
    strip_left: _Optional = UNSET
    strip_right: _Optional = UNSET


class Prepend(_Part, frozen=True):
    prepend: _ShortText


class Replace(_Part, frozen=True):
    pattern: Pattern
    content: _ShortText


class Precompiled(_Part, frozen=True):
    precompiled_charsmap: str | None


class ByteLevelNormalizer(_Part, frozen=True, tag="ByteLevel"):
    pass


class NormalizerSequence(_Part, frozen=True, tag="Sequence"):
    normalizers: Annotated[list[Normalizer], Meta(max_length=MOST_PARTS)]


Normalizer: TypeAlias = (
    BertNormalizer
    | NFC
    | NFD
    | NFKC
    | NFKD
    | Nmt
    | Lowercase
    | StripAccents
    | Strip
    | Prepend
    | Replace
    | Precompiled
    | ByteLevelNormalizer
    | NormalizerSequence
)
_Behavior: TypeAlias = Literal["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


class BertPreTokenizer(_Part, frozen=True):
    pass


class ByteLevel(_Part, frozen=True):
    add_prefix_space: _Optional = UNSET
    trim_offsets: _Optional = UNSET
    use_regex: _Optional = UNSET


class CharDelimiterSplit(_Part, frozen=True):
    delimiter: _Letter


class Digits(_Part, frozen=True):
    individual_digits: _Optional = UNSET


class FixedLength(_Part, frozen=True):
    length: Annotated[int, Meta(ge=1, lt=1 << 31)]


class Metaspace(_Part, frozen=True):
    replacement: _Letter
    prepend_scheme: Literal["always", "never", "first"] | UnsetType = UNSET
    split: _Optional = UNSET
    add_prefix_space: _Optional = UNSET
    str_rep: _ShortText | UnsetType = UNSET


class Punctuation(_Part, frozen=True):
    behavior: _Behavior | UnsetType = UNSET


class Split(_Part, frozen=True):
    pattern: Pattern
    behavior: _Behavior
    invert: _Optional = UNSET


class UnicodeScripts(_Part, frozen=True):
    pass


class Whitespace(_Part, frozen=True):
    pass


class WhitespaceSplit(_Part, frozen=True):
    pass


class PreTokenizerSequence(_Part, frozen=True, tag="Sequence"):
    pretokenizers: Annotated[list[PreTokenizer], Meta(max_length=MOST_PARTS)]


PreTokenizer: TypeAlias = (
    BertPreTokenizer
    | ByteLevel
    | CharDelimiterSplit
    | Digits
    | FixedLength
    | Metaspace
    | Punctuation
    | Split
    | UnicodeScripts
    | Whitespace
    | WhitespaceSplit
    | PreTokenizerSequence
)


class BertProcessing(_Part, frozen=True):
    sep: tuple[_ShortText, _Id]
    cls: tuple[_ShortText, _Id]


class RobertaProcessing(_Part, frozen=True):
    sep: tuple[_ShortText, _Id]
    cls: tuple[_ShortText, _Id]
    trim_offsets: _Optional = UNSET
    add_prefix_space: _Optional = UNSET


class Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a text, or a special token, stands in a template."""

    id: _ShortText
    type_id: _TypeId


class Piece(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a template; one of both."""

    Sequence: Side | UnsetType = UNSET
    SpecialToken: Side | UnsetType = UNSET


class SpecialToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a special token of a template stands for."""

    id: _ShortText
    ids: Annotated[list[_Id], Meta(max_length=MOST_PARTS)]
    tokens: Annotated[list[_ShortText], Meta(max_length=MOST_PARTS)]


class TemplateProcessing(_Part, frozen=True):
    single: Annotated[list[Piece], Meta(max_length=MOST_PARTS)]
    pair: Annotated[list[Piece], Meta(max_length=MOST_PARTS)]
    special_tokens: Annotated[dict[str, SpecialToken], Meta(max_length=MOST_PARTS)]


class ProcessorSequence(_Part, frozen=True, tag="Sequence"):
    processors: Annotated[list[PostProcessor], Meta(max_length=MOST_PARTS)]


PostProcessor: TypeAlias = (
    BertProcessing | RobertaProcessing | ByteLevel | TemplateProcessing | ProcessorSequence
)
_Vocabulary: TypeAlias = dict[str, int]


class WordPiece(_Part, frozen=True):
    vocab: _Vocabulary
    unk_token: _ShortText
    continuing_subword_prefix: Annotated[str, Meta(max_length=64)]
    max_input_chars_per_word: Annotated[int, Meta(ge=0, le=1000)]


class WordLevel(_Part, frozen=True):
    vocab: _Vocabulary
    unk_token: _ShortText


class BPE(_Part, frozen=True):
    vocab: _Vocabulary
    merges: msgspec.Raw
    dropout: Annotated[float, Meta(ge=0, le=0)] | None = None
    unk_token: _ShortText | None = None
    continuing_subword_prefix: Annotated[str, Meta(max_length=64)] | None = None
    end_of_word_suffix: Annotated[str, Meta(max_length=64)] | None = None
    fuse_unk: _Optional = UNSET
    byte_fallback: _Optional = UNSET
    ignore_merges: _Optional = UNSET


class Unigram(_Part, frozen=True):
    vocab: list[tuple[str, float]]
    unk_id: _Id | None = None
    byte_fallback: _Optional = UNSET


Model: TypeAlias = WordPiece | WordLevel | BPE | Unigram


class AddedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that is found before a text is split."""

    id: _Id
    content: _ShortText
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


class Tokenizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """tokenizer.json; what only cuts, pads or decodes is not looked at, as it is not passed on."""

    model: msgspec.Raw
    version: Literal["1.0"] = "1.0"
    truncation: msgspec.Raw = msgspec.Raw(b"null")
    padding: msgspec.Raw = msgspec.Raw(b"null")
    added_tokens: Annotated[list[AddedToken], Meta(max_length=100_000)] = []
    normalizer: Normalizer | None = None
    pre_tokenizer: PreTokenizer | None = None
    post_processor: PostProcessor | None = None
    decoder: msgspec.Raw = msgspec.Raw(b"null")
