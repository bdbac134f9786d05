"""Which graph output answers a task; poolings in numpy, prompts left out, windows, STEP, sparse rows, offsets."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge import (
    NumericalError,
    ParamsError,
    PoolerConfig,
    PoolingParams,
    PromptError,
    ShapeError,
    TaskNotSupportedError,
    register_pooling,
)
from embedge._batches.checking import check_finite
from embedge._rows.pooling import pool
from embedge.manifest import GraphSpec, PoolingSpec, load_manifest

TEXTS = ["the river is cold", "good", "", "no light in the old city ."]
RAW = PoolingParams(normalize=False)


@register_pooling("test-nan")
def first_rows(prompts):
    return [p.hidden_states[0] for p in prompts]


def hidden_states(model, text: str, **arguments) -> np.ndarray:
    return model.encode(text, RAW, pooling_task="token_embed", **arguments).numpy()[0]


@pytest.mark.parametrize("mode", ["CLS", "LAST", "MEAN", "MAX", "MEAN_SQRT_LEN", "WEIGHTEDMEAN"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_pooling_chosen_at_load_equals_the_graphs_own(load, mode, side) -> None:
    graphs = load(bundle={"pooling": (mode,), "padding_side": side})
    numpys = load(
        bundle={"pooling": ("CLS", "MEAN"), "padding_side": side},
        pooler_config=PoolerConfig(pooling_type=mode),
    )
    expected = graphs.embed(TEXTS, pooling_params=RAW).numpy()
    assert_allclose(numpys.embed(TEXTS, pooling_params=RAW).numpy(), expected, atol=1e-6)
    rows = [hidden_states(graphs, text) for text in TEXTS]
    alone = [pool(row[None], np.ones((1, len(row))), [mode])[0] for row in rows]
    assert_allclose(expected, np.stack(alone), atol=1e-6)


def test_dense_modules_are_applied_after_a_pooling_chosen_at_load(load) -> None:
    graphs = load(bundle={"pooling": ("CLS",), "with_dense": True})
    numpys = load(bundle={"with_dense": True}, pooler_config=PoolerConfig(pooling_type="CLS"))
    assert_allclose(numpys.embed(TEXTS).numpy(), graphs.embed(TEXTS).numpy(), atol=1e-6)


def test_a_pooling_without_one_row_cannot_embed(load) -> None:
    model = load(pooler_config=PoolerConfig(pooling_type="ALL"))
    with pytest.raises(ParamsError, match="ALL gives one row per token"):
        model.embed("good")


def test_nan_in_a_pooling_chosen_at_load(load) -> None:
    model = load(pooler_config=PoolerConfig(pooling_type="MAX"))
    with pytest.raises(NumericalError, match="pooling gave NaN or infinity for prompt 2") as caught:
        model.embed(["good", "bad", "nan"])
    assert caught.value.index == 2


@pytest.mark.parametrize(
    ("kind", "task"), [("classify", None), ("sparse", None), ("token_classify", None), ("embed", "plugin")]
)
def test_nan_is_never_returned(load, kind, task) -> None:
    with pytest.raises(NumericalError, match="NaN or infinity for prompt 1") as caught:
        load(kind, pooling_plugin="test-nan").encode(["good", "nan"], pooling_task=task)
    assert caught.value.index == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [2, 4000])
def test_infinity_is_reported_like_nan(value, size) -> None:
    rows = np.zeros((3, size), dtype=np.float32)
    rows[1, 0] = rows[2, -1] = value
    check_finite(rows[:1], np.array([7]))
    with pytest.raises(NumericalError, match="NaN or infinity for prompt 2") as caught:
        check_finite(rows, np.array([9, 5, 2]))
    assert caught.value.index == 2


@pytest.mark.parametrize("size", [8, 4000])
def test_large_rows_are_no_infinity(size) -> None:
    largest = np.full((3, size), np.finfo(np.float32).max, dtype=np.float32)
    largest[1] *= -1
    check_finite(largest, np.arange(3))


def test_windows_of_texts_of_which_one_is_normalised(load) -> None:
    model = load()
    texts = ["good " * 70, "bad"]
    params = [PoolingParams(normalize=True), PoolingParams(normalize=False)]
    rows = model.embed(texts, long_text="mean", pooling_params=params)
    whole = model.embed(texts, long_text="mean", pooling_params=PoolingParams(normalize=False)).numpy()
    assert_allclose(rows[0].outputs.data, whole[0] / np.linalg.norm(whole[0]), atol=1e-6)
    assert_allclose(rows[1].outputs.data, whole[1], atol=1e-6)


def without_prompt(**pooling):
    return {
        "pooling": PoolingSpec(modes=("MEAN",), include_prompt=False),
        "prompts": {"query": "the river :"},
        **pooling,
    }


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_prompt_may_be_left_out_of_the_pooling(load, side) -> None:
    model = load(bundle={"changes": without_prompt(), "padding_side": side})
    actual = model.embed(TEXTS, prompt_name="query", pooling_params=RAW).numpy()
    for text, row in zip(TEXTS, actual, strict=True):
        rows = hidden_states(model, text, prompt_name="query")
        # [CLS] goes with the prompt's three tokens, as in sentence-transformers
        assert_allclose(row, rows[4:].mean(0), atol=1e-6)
    plain = model.embed(TEXTS, pooling_params=RAW).numpy()
    assert_allclose(plain[0], hidden_states(model, TEXTS[0]).mean(0), atol=1e-6)


def test_a_text_that_is_cut_down_to_its_prompt_has_nothing_to_average(load) -> None:
    model = load(bundle={"changes": without_prompt(), "special_tokens": False})
    params = PoolingParams(normalize=False, truncate_prompt_tokens=3)
    output = model.embed("good", prompt_name="query", pooling_params=params, truncation_side="right")[0]
    assert output.num_truncated_tokens == 1
    assert not output.outputs.data.any()


def test_long_text_in_windows(load) -> None:
    model = load(bundle={"changes": {"prompts": {"query": "good :"}, "matryoshka": True}})
    text = "the river is cold and " * 12
    (output,) = model.embed(
        text, long_text="mean", prompt_name="query", pooling_params=PoolingParams(dimensions=4)
    )
    lead, *content = output.prompt_token_ids[:3], *output.prompt_token_ids[3:-1]
    parts = [content[i : i + 28] for i in range(0, len(content), 28)]
    assert [len(part) for part in parts] == [28, 28, 4]
    rows = model.embed(
        [[*lead, *part, output.prompt_token_ids[-1]] for part in parts], pooling_params=RAW
    ).numpy()
    mean = np.average(rows, axis=0, weights=[28, 28, 4])[:4]
    assert_allclose(output.outputs.data, mean / np.linalg.norm(mean), atol=1e-6)
    assert output.num_truncated_tokens == 0
    assert model.embed([], long_text="mean").numpy().shape == (0, model.info.embedding_size)
    ids = output.prompt_token_ids
    assert_allclose(
        model.embed([ids, "good"], long_text="mean").numpy()[1], model.embed("good").numpy()[0], atol=1e-6
    )
    with pytest.raises(PromptError, match="prompt 0 is a pair"):
        model.embed({"text": "a", "text_pair": "b"}, long_text="mean")
    with pytest.raises(PromptError, match="prompt 0: the stored prompt and special tokens take 42 of 32"):
        model.embed(text, long_text="mean", prompt="the " * 40)


def test_a_prompts_own_truncation_goes_before_the_calls_and_that_before_the_models(load) -> None:
    text = "the river is cold and " * 3
    model = load(truncate_prompt_tokens=12)
    params = [
        PoolingParams(truncate_prompt_tokens=4),
        PoolingParams(),
        PoolingParams(truncate_prompt_tokens=-1),
    ]

    def counts(**arguments) -> list[int]:
        outputs = model.embed([text] * 3, pooling_params=params, **arguments)
        return [len(output.prompt_token_ids) for output in outputs]

    assert counts() == [4, 12, 17]
    assert counts(truncate_prompt_tokens=7) == [4, 7, 17]
    (kept,) = model.encode(text, truncate_prompt_tokens=5, pooling_task="token_embed")
    assert [text[a:b] for a, b in kept.outputs.offsets] == ["", "is", "cold", "and", ""]
    (kept,) = model.encode(
        text, truncate_prompt_tokens=5, pooling_task="token_embed", truncation_side="right"
    )
    assert [text[a:b] for a, b in kept.outputs.offsets] == ["", "the", "river", "is", ""]


@pytest.mark.parametrize("default", [None, 5])
def test_long_text_error_and_truncate_are_stronger_than_the_default(load, default) -> None:
    model = load(truncate_prompt_tokens=default)
    with pytest.raises(PromptError, match="the model's limit is 32"):
        model.embed("the " * 50, long_text="error")
    assert len(model.embed("the " * 50, long_text="truncate")[0].prompt_token_ids) == 32


def test_step_keeps_columns_and_then_rows(load) -> None:
    model = load("reward")
    text = "the river . is cold . good"
    logits = model.encode(
        text, PoolingParams(use_activation=False, returned_token_ids=[]), pooling_task="token_classify"
    )
    (rows,) = logits.numpy()
    assert rows.shape == (2, 2)
    assert [text[a:b] for a, b in logits[0].outputs.offsets] == [".", "."]
    good = model.encode(text, PoolingParams(returned_token_ids=[1, 0]), pooling_task="token_classify")[
        0
    ].outputs
    shares = np.exp(rows[:, ::-1]) / np.exp(rows).sum(1, keepdims=True)
    assert_allclose(good.data, shares, atol=1e-6)
    assert good.labels == ("good", "bad")
    assert len(good.row_labels) == 2
    with pytest.raises(ParamsError, match="prompt 0: returned_token_ids holds 2; expected ids below 2"):
        model.encode(text, PoolingParams(returned_token_ids=[2]), pooling_task="token_classify")
    other = load(
        "reward",
        pooler_config=PoolerConfig(
            step_tag_id=model._open().engine.tokenizer.texts.ids_without_specials("river")[0]
        ),
    )
    assert [text[a:b] for a, b in other.encode(text)[0].outputs.offsets] == ["river"]


def test_step_needs_a_step_pooler(load) -> None:
    with pytest.raises(ParamsError, match="does not support .'step_tag_id'"):
        load("token_classify").encode("good", PoolingParams(step_tag_id=5))
    with pytest.raises(ParamsError, match="does not support .'step_tag_id'"):
        load().embed("good", pooling_params=PoolingParams(step_tag_id=5))


def test_step_of_a_pooler_chosen_at_load(load) -> None:
    dot = load("reward").manifest.pooling.step_tag_id
    model = load("token_classify", pooler_config=PoolerConfig(pooling_type="STEP", step_tag_id=dot))
    assert model.encode(["good . bad .", "good"]).numpy()[0].shape == (2, 3)
    assert model.encode("good").numpy()[0].shape == (0, 3)


def test_sparse_rows_are_terms_by_weight(load) -> None:
    model = load("sparse")
    outputs = model.embed_sparse(TEXTS)
    dense = model.embed(TEXTS, pooling_params=RAW).numpy()
    assert [len(weights) for weights in outputs.numpy()] == [int((row > 0).sum()) for row in dense]
    for output, row in zip(outputs, dense, strict=True):
        assert (np.diff(output.outputs.weights) <= 0).all()
        assert set(output.outputs.token_ids) == set(np.flatnonzero(row > 0))
        assert_allclose(output.outputs.data, row, atol=1e-6)
    with pytest.raises(TaskNotSupportedError, match="dense embeddings"):
        load().embed_sparse("good")


def test_a_bundle_without_a_head_or_an_output_says_so(load, tiny) -> None:
    with pytest.raises(ShapeError, match="logits but no head"):
        load("classify", bundle={"changes": {"head": None}}).encode("good", pooling_task="classify")
    graph: GraphSpec = load_manifest(tiny()).graph
    blind = load(bundle={"changes": {"graph": msgspec.structs.replace(graph, hidden=None, token=None)}})
    with pytest.raises(ParamsError, match="lacks the output that this task needs"):
        blind.encode("good", pooling_task="token_embed")
    with pytest.raises(TaskNotSupportedError, match="cannot plugin"):
        blind.encode("good", pooling_task="plugin")


def test_tokens_are_named_by_their_labels_and_offsets(load) -> None:
    model = load("token_classify")
    text = "The  river — is\tcold"
    (output,) = model.encode(text)
    rows = output.outputs
    assert [text[a:b] for a, b in rows.offsets] == ["", "The", "river", "—", "is", "cold", ""]
    assert len(rows.row_labels) == 7
    assert set(rows.row_labels) <= {"O", "PLACE", "PERSON"}
    assert model.encode([output.prompt_token_ids])[0].outputs.offsets is None
    cut = model.encode(text, PoolingParams(truncate_prompt_tokens=4))[0].outputs
    assert [text[a:b] for a, b in cut.offsets] == ["", "is", "cold", ""]
    with pytest.raises(PromptError, match="prompt 0 is a pair of texts, which token_classify does not take"):
        model.encode({"text": "a", "text_pair": "b"})


def test_offsets_do_not_count_a_stored_prompt(load) -> None:
    model = load(bundle={"changes": {"prompts": {"query": "good : "}, "default_prompt_name": "query"}})
    rows = model.encode("the river", pooling_task="token_embed")[0].outputs
    assert rows.offsets == [(0, 0), (0, 0), (0, 0), (0, 3), (4, 9), (0, 0)]
    assert rows.labels is None


def test_dimensions_stated_by_the_bundle(load) -> None:
    model = load(bundle={"changes": {"dimensions": 4, "matryoshka": (4, 8)}})
    size = model.info.embedding_size
    whole = load(bundle={"changes": {"matryoshka": True}}).embed(TEXTS, pooling_params=RAW).numpy()
    assert size == 8
    assert_allclose(model.embed(TEXTS, pooling_params=RAW).numpy(), whole[:, :4], atol=1e-6)
    asked = PoolingParams(dimensions=8, normalize=False)
    assert_allclose(model.embed(TEXTS, pooling_params=asked).numpy(), whole, atol=1e-6)
    assert model.model_config.truncate_dim == 4
    unit = load(bundle={"changes": {"matryoshka": True}}).embed(TEXTS).numpy()
    assert_allclose(model.embed(TEXTS).numpy(), unit[:, :4], atol=1e-6)  # and not normalised again
    for params in (PoolingParams(dimensions=4), PoolingParams(normalize=True)):
        lengths = np.linalg.norm(model.embed(TEXTS, pooling_params=params).numpy(), axis=1)
        assert_allclose(lengths, 1.0, atol=1e-6)
    assert model.encode("good", pooling_task="token_embed")[0].outputs.data.shape[1] == 8
    assert load(
        bundle={"changes": {"dimensions": 4, "matryoshka": (4, 8)}}, pooler_config=PoolerConfig(dimensions=8)
    ).embed("good").numpy().shape == (1, 8)


def test_compat_021_calls_a_score_classify(load) -> None:
    for kind in ("cross_encoder", "llm_reranker"):
        old, new = load(kind), load(kind, compat="0.21")
        assert old.encode("good").numpy() == new.encode("good").numpy()
        params = PoolingParams(task="classify", use_activation=False)
        assert_allclose(
            new.score("river", "good", pooling_params=params).numpy(),
            old.score(
                "river", "good", pooling_params=PoolingParams(task="score", use_activation=False)
            ).numpy(),
        )
        assert new.classify("good").numpy() == old.encode("good", PoolingParams(task="score")).numpy()
        with pytest.raises(ParamsError, match='"score" does not exist'):
            new.encode("good", PoolingParams(task="score"))
        with pytest.raises(TaskNotSupportedError, match="its tasks are classify") as caught:
            new.embed("good")
        assert caught.value.tasks == ("classify",)
    with pytest.raises(ParamsError, match='"score" does not exist'):
        load("cross_encoder", compat="0.21", task="score")
    assert load("cross_encoder", compat="0.21", task="classify").encode("good").numpy().shape == (1, 1)
    unit, raw = (
        load(compat="0.21").embed("good", pooling_params=p).numpy()
        for p in (None, PoolingParams(use_activation=False))
    )
    assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)
    assert abs(np.linalg.norm(raw) - 1) > 1e-3
