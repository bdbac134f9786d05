"""Prompts, truncation and pairs, against the tokenizers package where it has the same rule."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from embedge import BundleError, ParamsError, PromptError
from embedge._text.encodings import TextTokenizer
from embedge._text.pairs import encode_pairs
from embedge._text.prompts import parse_prompts
from embedge._text.tokenizer import PromptTokenizer
from embedge.manifest import load_manifest

WORDS = ["food", "city", "water", "light", "plants", "berlin", "how", "do"]


@pytest.fixture
def tokenizer(tiny_embedder: Path) -> PromptTokenizer:
    manifest = load_manifest(tiny_embedder)
    return PromptTokenizer(
        (tiny_embedder / "tokenizer.json").read_bytes(),
        manifest.tokenizer,
        vocab_size=manifest.vocab_size,
        max_seq_len=10,
    )


def words(count: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def test_forms_of_prompts() -> None:
    assert parse_prompts("a") == ["a"]
    assert parse_prompts({"prompt": "a"}) == ["a"]
    assert parse_prompts([1, 2]) == [[1, 2]]
    assert parse_prompts(np.array([1, 2])) == [[1, 2]]
    assert parse_prompts([[1, 2], "a", {"prompt_token_ids": [3]}, ("b" * 2)]) == [[1, 2], "a", [3], "bb"]
    assert parse_prompts(np.array(["a", "b"])) == ["a", "b"]
    assert parse_prompts({"text": "a", "text_pair": "b"}) == [("a", "b")]
    assert parse_prompts([]) == []
    assert parse_prompts(x for x in "ab") == ["a", "b"]
    assert parse_prompts(iter([])) == []
    assert parse_prompts({"a": "x", "b": "y"}.values()) == ["x", "y"]
    assert parse_prompts(map(str.upper, "ab")) == ["A", "B"]


@pytest.mark.parametrize(
    ("prompts", "message", "index"),
    [
        (None, "prompts is None", None),
        (3, "prompts is int 3", None),
        (b"abc", "prompts is bytes", None),
        ({"a", "b"}, "prompts is set", None),
        (["a", None], "prompt 1 is None", 1),
        (["a", b"b"], "prompt 1 is bytes", 1),
        (["a", 3], "prompt 1 is int 3", 1),
        ([["a"]], "prompt 0 is a list that holds str 'a'", 0),
        ([[True]], "prompt 0 is a list that holds bool True", 0),
        ([[1, 2.5]], "holds float 2.5", 0),
        ([[]], "prompt 0 is an empty list", 0),
        ({"prompt_token_ids": []}, "prompt 0 is an empty list", 0),
        ({"text": "a"}, "dict with keys", 0),
        ({"prompt": [1]}, "prompt 0 holds list", 0),
        ({"prompt_token_ids": "a"}, "prompt 0 holds str", 0),
        ({"text": "a", "text_pair": 3}, "pair that holds int 3", 0),
        ({"prompt": "a", "multi_modal_data": {}}, "multi_modal_data", 0),
    ],
)
def test_wrong_prompts(prompts, message, index) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        parse_prompts(prompts)
    assert caught.value.index == index


def test_lone_surrogate_is_named(tokenizer) -> None:
    with pytest.raises(PromptError, match="prompt 1 is no valid text") as caught:
        tokenizer.encode(["a", "\ud800"], [None, None])
    assert caught.value.index == 1
    with pytest.raises(PromptError, match="prompt 2 is no valid text: .* at character 3"):
        tokenizer.encode(["a", [5], "abc\ud800"], [None] * 3, stored_prompt="how do ")
    with pytest.raises(PromptError, match="prompt 1 is no valid text: .* at character 0"):
        tokenizer.encode(["a", ("b", "\ud800")], [None] * 2)


def test_a_text_without_tokens_is_refused_where_no_special_ones_are_added(load) -> None:
    model = load(bundle={"special_tokens": False})
    with pytest.raises(
        PromptError, match="prompt 1 is empty: this tokenizer adds no special tokens"
    ) as caught:
        model.embed(["good", " ", "bad"])
    assert caught.value.index == 1
    with pytest.raises(PromptError, match="prompt 29 is empty") as caught:
        model.embed([*["good"] * 29, "", "", "bad"])
    assert caught.value.index == 29


@pytest.mark.parametrize("ids", [[5, -1], [5, 10**6]])
def test_token_ids_outside_of_the_vocabulary(tokenizer, ids) -> None:
    with pytest.raises(PromptError, match=rf"prompt 1 holds token id {ids[1]}; .* ids 0 to") as caught:
        tokenizer.encode(["a", ids], [None, None])
    assert caught.value.index == 1


def test_limit_is_inclusive_and_too_long_is_refused(tokenizer) -> None:
    assert len(tokenizer.encode([words(8)], [None])[0].token_ids) == 10
    with pytest.raises(PromptError, match=r"prompt 1 has 11 tokens; the model's limit is 10") as caught:
        tokenizer.encode(["a", words(9)], [None, None])
    assert caught.value.index == 1


def test_many_prompts_are_those_that_each_gives_alone(tokenizer) -> None:
    """Beyond 16 prompts they are held in arrays, beyond 1,024 in several."""
    prompts = [[7, 8, 9] if i % 7 == 0 else words(i % 12, seed=i) for i in range(1100)]
    limits = [-1 if i % 3 else 5 for i in range(len(prompts))]
    many = tokenizer.encode(prompts, limits, stored_prompt="how ")
    assert len(many) == len(prompts)
    for prompt, limit, encoded in zip(prompts, limits, many, strict=True):
        alone = tokenizer.encode([prompt], [limit], stored_prompt="how ")[0]
        assert (encoded.token_ids, encoded.num_truncated) == (alone.token_ids, alone.num_truncated)
        assert encoded.num_prompt_tokens == alone.num_prompt_tokens
    short = [words(3)] * 1050 + [words(30)]
    with pytest.raises(PromptError, match="prompt 1050 has 32 tokens") as caught:
        tokenizer.encode(short, [None] * len(short))
    assert caught.value.index == 1050


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("stored_prompt", ["", "how do "])
@pytest.mark.parametrize("limits", [[-1], [4], [-1, 2, 5, 10, 3]])
def test_many_texts_are_cut_as_each_alone(tokenizer, side, stored_prompt, limits) -> None:
    texts = [words(i * 7 % 23, seed=i) for i in range(300)]
    every = [limits[i % len(limits)] for i in range(300)]
    how = {"truncation_side": side, "stored_prompt": stored_prompt}
    many = tokenizer.encode(texts, every, **how)
    assert sum(e.num_truncated > 0 for e in many) > 150
    for text, limit, encoded in zip(texts, every, many, strict=True):
        alone = tokenizer.encode([text], [limit], **how)[0]
        assert encoded.token_ids == alone.token_ids
        assert (encoded.num_truncated, encoded.num_prompt_tokens) == (
            alone.num_truncated,
            alone.num_prompt_tokens,
        )
    flat = [t for e in many for t in e.token_ids]
    batch = many.batch(np.arange(300), 0, "right")
    assert batch.input_ids[batch.attention_mask > 0].tolist() == flat


def test_the_first_of_many_texts_that_is_too_long_is_named(tokenizer) -> None:
    texts = [words(5)] * 40
    texts[21], texts[13], texts[7] = words(12), words(11), words(20)
    limits = [None] * 40
    limits[7] = -1
    with pytest.raises(PromptError, match="prompt 13 has 13 tokens; the model's limit is 10") as caught:
        tokenizer.encode(texts, limits)
    assert caught.value.index == 13


def test_a_later_chunk_is_tokenised_ahead_and_the_first_bad_prompt_is_named(tokenizer) -> None:
    many = ["food city water"] * 3000
    assert [e.token_ids for e in tokenizer.encode(many, [None] * 3000)] == [
        tokenizer.encode(many[:1], [None])[0].token_ids
    ] * 3000
    for first, second in ((5, 2500), (1500, 1200)):
        prompts = list(many)
        prompts[first], prompts[second] = "food " * 99, "\udc80"
        with pytest.raises(PromptError) as caught:
            tokenizer.encode(prompts, [None] * 3000)
        assert caught.value.index == min(first, second)
    assert not [t for t in threading.enumerate() if t.name == "embedge-ahead"]


@pytest.mark.parametrize("with_offsets", [False, True])
def test_one_thread_gives_the_same_tokens(tokenizer, tiny_embedder, with_offsets) -> None:
    manifest = load_manifest(tiny_embedder)
    single = PromptTokenizer(
        (tiny_embedder / "tokenizer.json").read_bytes(),
        manifest.tokenizer,
        vocab_size=manifest.vocab_size,
        max_seq_len=10,
        parallel=False,
    )
    prompts = [words(i % 9, seed=i) for i in range(40)]
    for one, many in zip(
        single.encode(prompts, [-1] * 40, with_offsets=with_offsets),
        tokenizer.encode(prompts, [-1] * 40, with_offsets=with_offsets),
        strict=True,
    ):
        assert (one.token_ids, one.offsets) == (many.token_ids, many.offsets)
    with pytest.raises(PromptError, match="prompt 1 is no valid text"):
        single.encode(["a", "\ud800"], [None, None])


@pytest.mark.parametrize("limit", [0, 1, -2, 11])
def test_limits_out_of_range(tokenizer, limit) -> None:
    with pytest.raises(ParamsError, match=f"truncate_prompt_tokens={limit} .*2 to 10"):
        tokenizer.encode(["a"], [limit])


@pytest.mark.parametrize("count", range(12))
@pytest.mark.parametrize("limit", [2, 3, 7, 10, -1])
def test_truncation_keeps_specials_and_the_right_side(tokenizer, count, limit) -> None:
    text = words(count, seed=count)
    whole = tokenizer.texts._tokenizer.encode(text).ids
    room = 10 if limit == -1 else limit
    for side, expected in (
        ("right", whole[1:-1][: room - 2]),
        ("left", whole[1:-1][max(0, len(whole) - room) :]),
    ):
        for prompt in (text, whole):
            encoded = tokenizer.encode([prompt], [limit], truncation_side=side)[0]
            assert encoded.token_ids == [whole[0], *expected, whole[-1]]
            assert encoded.num_truncated == len(whole) - len(encoded.token_ids)
    default = tokenizer.encode([text], [limit])[0].token_ids
    assert (
        default
        == tokenizer.encode([text], [limit], truncation_side="right" if limit == -1 else "left")[0].token_ids
    )


def test_token_ids_without_specials_are_cut_without_inventing_any(tokenizer) -> None:
    assert tokenizer.encode([[7, 8, 9, 10, 11]], [3])[0].token_ids == [9, 10, 11]


def test_stored_prompt_goes_before_text_and_not_before_token_ids(tokenizer) -> None:
    text, ids = tokenizer.encode(["food", [7, 8]], [None, None], stored_prompt="how do ")
    assert text.token_ids == tokenizer.encode(["how do food"], [None])[0].token_ids
    assert text.num_prompt_tokens == 3
    assert (ids.token_ids, ids.num_prompt_tokens) == ([7, 8], 0)


def test_offsets_do_not_count_the_stored_prompt(tokenizer) -> None:
    encoded = tokenizer.encode(["food city"], [None], stored_prompt="how do ", with_offsets=True)[0]
    assert encoded.offsets == [(0, 0), (0, 0), (0, 0), (0, 4), (5, 9), (0, 0)]


def test_pairs_are_cut_like_the_tokenizers_package(tokenizer, tiny_embedder) -> None:
    reference = Tokenizer.from_file(str(tiny_embedder / "tokenizer.json"))
    reference.no_padding()
    rng = random.Random(1)
    for _ in range(300):
        a, b, limit = rng.randrange(1, 14), rng.randrange(1, 14), rng.randrange(5, 11)
        query, document = words(a, seed=a), words(b, seed=b + 50)
        reference.enable_truncation(limit, strategy="longest_first")
        expected = reference.encode(query, document)
        actual = encode_pairs(tokenizer, [query], [document], [limit])[0]
        assert actual.token_ids == expected.ids
        assert (actual.type_ids or [0] * len(expected.ids)) == expected.type_ids
        assert actual.num_truncated == max(0, a + b + 3 - limit)


def test_only_the_document_is_cut_when_asked(tokenizer) -> None:
    encoded = encode_pairs(tokenizer, [words(4)], [words(20)], [-1], "document")[0]
    assert encoded.type_ids == [0] * 6 + [1] * 4
    assert (encoded.num_truncated, encoded.num_truncated_query) == (17, 0)
    with pytest.raises(PromptError, match="pair 0: its query alone has 9 tokens") as caught:
        encode_pairs(tokenizer, [words(9)], ["food"], [-1], "document")
    assert caught.value.index == 0
    with pytest.raises(
        PromptError, match="pair 1 has 12 tokens, and its query alone has 8; the model's limit is 10"
    ):
        encode_pairs(tokenizer, ["a", words(8)], ["b", "food"], [None, None])


def test_what_the_tokenizers_package_fails_on_is_the_bundles_fault(tiny) -> None:
    import json

    made = json.loads((tiny() / "tokenizer.json").read_bytes())
    made["model"] = {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "[GONE]"}
    made["added_tokens"], made["post_processor"] = [], None
    texts = TextTokenizer(json.dumps(made).encode(), parallel=False)
    with pytest.raises(BundleError, match=r"tokenizer.json failed on a text: .*Export the model again"):
        texts.encode(["b"])
    with pytest.raises(BundleError, match=r"tokenizer.json cannot be read by tokenizers"):
        TextTokenizer(b"\xff", parallel=False)


def test_a_panic_is_the_bundles_fault_and_an_exit_is_not(tiny, monkeypatch) -> None:
    """Its class cannot be imported, and is no Exception."""
    panic = type("PanicException", (BaseException,), {})
    texts = TextTokenizer((tiny() / "tokenizer.json").read_bytes(), parallel=True)

    class Broken:
        def encode_batch_fast(self, *_, **__):
            raise self.error

    broken = Broken()
    monkeypatch.setattr(texts, "_tokenizer", broken)
    broken.error = panic("index out of bounds")
    with pytest.raises(BundleError, match="failed on a text: index out of bounds"):
        texts.encode(["b"])
    broken.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        texts.encode(["b"])


def test_prompts_that_take_turns_do_not_mix(tokenizer) -> None:
    prompts = ["", "how do ", "the ", "how do ", "how do ", ""]
    for prompt in prompts:
        for with_offsets in (False, True):
            alone = tokenizer.encode(
                ["my password"], [None], stored_prompt=prompt, with_offsets=with_offsets
            )[0]
            whole = tokenizer.encode([prompt + "my password"], [None])[0]
            assert alone.token_ids == whole.token_ids
            assert alone.num_prompt_tokens == (1 + len(prompt.split()) if prompt else 0)
            assert (alone.offsets is not None) == with_offsets
