"""Sides, similarity and tokens of bundles that have something else than embeddings of one row."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from embedge import EdgeModel, ParamsError, PromptError, ShapeError, TaskNotSupportedError
from embedge._rows import similarity as rows_similarity
from embedge._rows.similarity import similarities

PROMPTS = {"prompts": {"query": "the river ", "passage": "good "}, "default_prompt_name": "passage"}


def test_a_side_has_its_own_prompt_or_none(load) -> None:
    model = load(bundle={"changes": PROMPTS})
    texts = ["the city", "a"]
    for actual, options in (
        (model.embed_query(texts), {"prompt_name": "query"}),
        (model.embed_document(texts), {"prompt": ""}),
        (model.embed_document(texts, prompt_name="passage"), {"prompt_name": "passage"}),
        (model.embed_query(texts, prompt="city "), {"prompt": "city "}),
        (asyncio.run(model.aembed_query(texts)), {"prompt_name": "query"}),
        (asyncio.run(model.aembed_document(texts)), {"prompt": ""}),
    ):
        assert np.array_equal(actual.numpy(), model.embed(texts, **options).numpy())


def test_a_tower_embeds_its_own_side(load) -> None:
    model = load(bundle={"changes": {"tower": "query"}})
    assert len(model.embed_query("a")) == 1
    with pytest.raises(TaskNotSupportedError, match="the query tower of .* it embeds no document; expected"):
        model.embed_document("a")


@pytest.mark.parametrize("kind", ["classify", "cross_encoder", "late_interaction", "token_classify"])
def test_what_has_no_embeddings_compares_none(kind, load) -> None:
    model = load(kind)
    with pytest.raises(TaskNotSupportedError, match="has no embeddings of one row per text to compare"):
        model.similarity([1.0], [1.0])
    for verb in (model.embed_query, model.embed_document):
        with pytest.raises(TaskNotSupportedError):
            verb("a")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "embeddings_1 have 3 components and embeddings_2 have 4"),
        ([[1.0], [1.0, 2.0]], [[1.0]], "embeddings_1 form no array"),
        ([[1.0]], ["a"], "embeddings_2 hold <U1, no numbers"),
        (None, [[1.0]], "embeddings_1 hold object, no numbers"),
        (
            np.ones((2, 2, 2)),
            [[1.0]],
            r"embeddings_1 have shape \(2, 2, 2\); expected \(num_embeddings, dim\)",
        ),
        (3.0, [[1.0]], r"embeddings_1 have shape \(\)"),
    ],
)
def test_what_is_no_embedding_is_named(first, second, message) -> None:
    with pytest.raises(ShapeError, match=message):
        similarities(first, second, "cosine")


def test_many_are_compared_in_blocks(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(17, 5)), rng.normal(size=(4, 5))
    whole = similarities(first, second, "manhattan")
    monkeypatch.setattr(rows_similarity, "_BLOCK_NUMBERS", 50)
    assert np.array_equal(similarities(first, second, "manhattan"), whole)
    assert similarities([], second, "dot").shape == (0, 4)
    assert similarities(first, np.zeros((0, 5)), "euclidean").shape == (17, 0)


def test_tokens_are_those_that_are_used(load) -> None:
    model = load(bundle={"changes": PROMPTS})
    prompts = ["the city", [5, 6], {"prompt": "a"}]
    used = [output.prompt_token_ids for output in model.embed(prompts)]
    found = model.tokenize(prompts)
    assert [each.token_ids for each in found] == used
    assert model.count_tokens(iter(prompts)) == list(map(len, used))
    assert found[0].tokens[0] == "[CLS]"
    # special tokens, and those of the stored prompt, hold nothing of the text
    assert ["the city"[start:end] for start, end in found[0].offsets] == ["", "", "the", "city", ""]
    assert found[1].offsets is None
    long = "the river " * 100
    assert model.count_tokens(long, prompt="") == [202]
    assert len(model.tokenize(long, prompt_name="query")[0]) == 204
    with pytest.raises(ParamsError, match="prompt_name='nope' is not stored"):
        model.count_tokens("a", prompt_name="nope")
    for verb in ("tokenize", "count_tokens"):
        with pytest.raises(PromptError, match=f"prompt 0 is a pair of texts, which {verb} does not take"):
            getattr(model, verb)({"text": "a", "text_pair": "b"})


def test_an_id_that_the_vocabulary_lacks_is_its_number(tiny) -> None:
    with EdgeModel(tiny(changes={"vocab_size": 60}), device="cpu") as model:
        assert model.tokenize([[5, 59]])[0].tokens[1:] == ["59"]
