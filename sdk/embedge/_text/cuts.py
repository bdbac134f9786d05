"""Where a long text can be cut so that its beginning, or its end, has the tokens that the whole text has there.

A cut is made before a space between two letters or digits. That far no part of a tokenizer may look: what normalises
treats letters by themselves, what splits begins anew at the space, and no token goes over it. What is known to do so is
listed here; with any other part texts are tokenised whole, as a normaliser or a regular expression may look anywhere.

Texts without spaces have a beginning, too, where the tokenizer splits at punctuation, or makes a word of every Chinese
character; and a word that is too long for a table of word pieces is one unknown token, however long it is. What is left
is tokenised whole: letters alone with byte-level merges, anything without spaces with a tokenizer that splits at them
alone, and ends of texts without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

_SPACE = r"[^\W_] (?=[^\W_])"
_PLACE = re.compile(_SPACE)
_PUNCTUATION = r"""!"#$%&()*+,-./:;<=>?@[\]^`{|}~。、，！？；："""
"""No tokenizer that splits at punctuation has one of these in a piece with the letter before it."""
_HAN = "一-鿿"
_SOLID = "A-Za-z0-9\u2600-\u26ff\u2764\U0001f300-\U0001faff"
"""Letters, digits and pictures that BERT's parts neither split at nor take away."""
_TAKEN_AWAY = "\ufe0f\u200d"
"""What joins pictures, which a normalizer may take away."""
_MARK = "▁"
_LOCAL_NORMALIZERS = frozenset(
    {
        "BertNormalizer",
        "ByteLevel",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "StripAccents",
    }
)
_LOCAL_REPLACED = frozenset({r"\s+", r" {2,}", r"\s{2,}", r"\s{2,}|[\n\r\t]", r"[\n\r\t]", r"\n", r"\t"})
"""Regular expressions that match nothing but white space: never a single space between letters, or it alone."""
_DROPS_SPACES = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
_LOCAL_PRE_TOKENIZERS = frozenset({"Digits", "Punctuation"})
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = frozenset(
    {
        r"\s+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        _CONTRACTIONS + r"\p{N}" + _REST,
        _CONTRACTIONS + r"\p{N}{1,3}" + _REST,
    }
)
"""Those of GPT-2, Qwen, Llama and OpenAI's: a word ends before a space, and one begins there."""


class Cuts(msgspec.Struct, frozen=True, kw_only=True):
    """What may be cut.

    Attributes:
        ends: the end of a text has its tokens, too, not only the beginning.
        without_space: an end begins after the space, which the tokenizer puts back.
        place: what matches the character before a cut of a beginning, and looks at what follows.
        longest_word: characters of a word beyond which it is one unknown token; None where there is no such limit.
    """

    ends: bool
    without_space: bool = False
    place: str = _SPACE
    longest_word: int | None = None

    def without_endless_words(self, text: str) -> str:
        """A text with the same tokens, in which words that are unknown for their length are just too long."""
        if self.longest_word is None:
            return text
        one = f"[{_SOLID}][{_TAKEN_AWAY}]*"
        endless = (
            rf"(?<![{_SOLID}{_TAKEN_AWAY}])((?:{one}){{{self.longest_word + 1}}})[{_SOLID}{_TAKEN_AWAY}]+"
        )
        return re.sub(endless, r"\1", text)

    def beginning(self, text: str, size: int) -> str:
        """The first characters of a text, a word or so more than asked for; the whole text where no cut comes."""
        for found in re.compile(self.place).finditer(text, max(0, size - 1)):
            following = text[found.end()]
            if _stands_alone(text[found.start()]) and (following in _PUNCTUATION or _stands_alone(following)):
                return text[: found.start() + 1]
        return text

    def end(self, text: str, size: int) -> str:
        """The last characters, likewise."""
        window = size
        while window < len(text):
            last = len(text) - window
            for found in reversed(list(_PLACE.finditer(text, max(0, last - _LOOK_BACK), last + 1))):
                if _stands_alone(text[found.start()]) and _stands_alone(text[found.end()]):
                    return text[found.start() + 1 + self.without_space :]
            window += _LOOK_BACK
        return text


_LOOK_BACK = 4096


def cuts_of(tokenizer: Tokenizer) -> Cuts | None:
    """Where texts can be cut for a tokenizer; None where that is not known."""
    normalizer = _parts(tokenizer.normalizer, "normalizers")
    pre_tokenizer = _parts(tokenizer.pre_tokenizer, "pretokenizers")
    added = tokenizer.get_added_tokens_decoder().values()
    if any(re.search(rf"\S[\s{_MARK}]", each.content) for each in added) or not all(
        map(_is_local, normalizer)
    ):
        return None
    marks = any(map(_marks_spaces, normalizer))
    cuts = _cuts_of_split(pre_tokenizer, marks=marks)
    if cuts is None:
        cuts = _cuts_of_vocabulary(tokenizer, pre_tokenizer, marks=marks)
    if cuts is None or getattr(tokenizer.model, "dropout", None):
        return None
    puts_before = [part["prepend"] for part in normalizer if part["type"] == "Prepend"]
    ends = (
        cuts.ends
        and not any(part["type"] == "Strip" and part["strip_left"] for part in normalizer)
        and not any(map(_takes_space, added))
        and puts_before in ([], [" "], [_MARK])
    )
    looked_for = [each.content for each in added]
    looked_for += [str(part["pattern"].get("String", "")) for part in normalizer if part["type"] == "Replace"]
    return Cuts(
        ends=ends,
        without_space=bool(puts_before),
        place="|".join([_SPACE, *_places_without_space(normalizer, pre_tokenizer, looked_for)]),
        longest_word=_longest_word(tokenizer, normalizer, pre_tokenizer, looked_for),
    )


def _places_without_space(
    normalizer: list[dict[str, Any]], pre_tokenizer: list[dict[str, Any]], looked_for: list[str]
) -> Iterable[str]:
    """Further places for the cut of a beginning, as patterns.

    Args:
        normalizer: its parts.
        pre_tokenizer: its parts.
        looked_for: texts that are found whole; no cut is made at a character of one.
    """
    letters = set("".join(looked_for))
    if _splits_at_punctuation(pre_tokenizer):
        yield rf"[^\W_](?=[{re.escape(''.join(each for each in _PUNCTUATION if each not in letters))}])"
    isolates = any(part["type"] == "BertNormalizer" and part["handle_chinese_chars"] for part in normalizer)
    if (
        isolates
        and pre_tokenizer[0]["type"] in _DROPS_SPACES
        and not re.search(f"[{_HAN}]", "".join(letters))
    ):
        yield f"[{_HAN}](?=[{_HAN}])"


def _splits_at_punctuation(pre_tokenizer: list[dict[str, Any]]) -> bool:
    """Whether a piece ends before every punctuation mark that follows a letter or digit."""
    for part in pre_tokenizer:
        kind = part["type"]
        if kind in ("BertPreTokenizer", "Whitespace") or (
            kind == "ByteLevel" and part.get("use_regex", True)
        ):
            return True
        if kind == "Punctuation" and part["behavior"] == "Isolated":
            return True
        if kind == "Split" and part["pattern"].get("Regex") in _SPLITS - {r"\s+"}:
            return bool(part["behavior"] == "Isolated" and not part["invert"])
        if kind not in ("WhitespaceSplit", "Digits"):
            return False
    return False


def _longest_word(
    tokenizer: Tokenizer,
    normalizer: list[dict[str, Any]],
    pre_tokenizer: list[dict[str, Any]],
    looked_for: list[str],
) -> int | None:
    """Characters of a word that BERT's parts look up at all; None for other parts."""
    kinds = [part["type"] for part in pre_tokenizer], {part["type"] for part in normalizer}
    if type(tokenizer.model).__name__ != "WordPiece" or kinds != (["BertPreTokenizer"], {"BertNormalizer"}):
        return None
    limit: int = tokenizer.model.max_input_chars_per_word
    inside = re.compile(f"[{_SOLID}{_TAKEN_AWAY}]")
    # one that begins or ends within a word, or is as long as one, could be part of what is taken out
    if any(inside.match(each[:1]) or inside.match(each[-1:]) or len(each) > limit for each in looked_for):
        return None
    return limit


def _parts(component: Any, member: str) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer as tokenizer.json states it, sequences in order."""
    if component is None:
        return []

    def flat(part: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return (
            [each for inner in part[member] for each in flat(inner)] if part["type"] == "Sequence" else [part]
        )

    return list(flat(msgspec.json.decode(component.__getstate__())))


def _is_local(part: Mapping[str, Any]) -> bool:
    """Whether a normalizer keeps the space, and treats what is before and after it apart."""
    if part["type"] == "Replace":
        pattern, content = part["pattern"], part["content"]
        if "Regex" in pattern:
            return pattern["Regex"] in _LOCAL_REPLACED and content in (" ", _MARK)
        text = pattern["String"]
        return content in (" ", _MARK) if text == " " else not re.search(r"\s", text)
    return part["type"] in _LOCAL_NORMALIZERS or part["type"] in ("Prepend", "Strip")


def _marks_spaces(part: Mapping[str, Any]) -> bool:
    """Whether a normalizer makes a mark of every space."""
    return part["type"] == "Replace" and (
        part["content"] == _MARK and part["pattern"] in ({"String": " "}, {"Regex": r"\s+"})
    )


def _takes_space(token: AddedToken) -> bool:
    """Whether an added token that is a word takes the space after it away."""
    return token.rstrip and token.content[-1:].isalnum()


def _cuts_of_split(parts: list[dict[str, Any]], *, marks: bool) -> Cuts | None:
    """By pre-tokenizers that begin anew at every space; None where none does."""
    for index, part in enumerate(parts):
        kind = part["type"]
        splits = kind in _DROPS_SPACES or (kind == "ByteLevel" and part.get("use_regex", True))
        if kind == "Split" and part["pattern"].get("Regex") in _SPLITS:
            splits = part["behavior"] in ("Isolated", "Removed")
        if kind == "Metaspace" and part.get("split", True):
            return Cuts(ends=part["replacement"] == _MARK)
        if splits and not marks:
            # what marks the first word of a text would mark the first of an end, too
            return Cuts(ends=all(later.get("prepend_scheme") != "first" for later in parts[index + 1 :]))
        if kind not in _LOCAL_PRE_TOKENIZERS:
            return None
    return None


def _cuts_of_vocabulary(tokenizer: Tokenizer, parts: list[dict[str, Any]], *, marks: bool) -> Cuts | None:
    """By a vocabulary in which every space begins a token: no piece is made over one."""
    for part in parts:
        if part["type"] == "Metaspace" and part["replacement"] == _MARK:
            marks = True
        elif not (part["type"] == "Split" and part["pattern"] == {"String": " "} and marks):
            return None  # a split at spaces finds none once they are marks
    vocabulary: Callable[..., Mapping[str, int]] = tokenizer.get_vocab
    if not marks or type(tokenizer.model).__name__ not in ("BPE", "Unigram"):
        return None
    words: Collection[str] = vocabulary(with_added_tokens=False)
    if _MARK not in words or any(_MARK in word.lstrip(_MARK) for word in words):
        return None
    return Cuts(ends=True)


def _stands_alone(letter: str) -> bool:
    """Whether a letter stays one without white space, however it is normalised."""
    letters = unicodedata.normalize("NFKD", letter)
    # a few letters of rare scripts form one character with whatever follows
    common = letter < "\u0d00" or "\u1100" <= letter < "\uffff"
    return common and letters[0].isalnum() and not any(map(str.isspace, letters))
