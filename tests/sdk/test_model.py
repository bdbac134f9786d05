"""EdgeModel: refusals, per-prompt parameters, outputs, scores."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests import bundles
from tests.sdk.asked import TEXTS

import embedge
from embedge import (
    EdgeModel,
    NumericalError,
    ParamsError,
    PoolerConfig,
    PoolingParams,
    PromptError,
    ShapeError,
    TaskNotSupportedError,
)

# what is asked


def test_tasks_the_bundle_lacks(model, cross, tiny_token_classifier) -> None:
    with pytest.raises(
        TaskNotSupportedError, match="cannot classify; its tasks are embed, token_embed"
    ) as caught:
        model.classify("food")
    assert (caught.value.task, caught.value.tasks) == ("classify", ("embed", "token_embed"))
    with pytest.raises(TaskNotSupportedError, match="cannot embed; its tasks are score, classify"):
        cross.embed("food")
    with pytest.raises(TaskNotSupportedError, match="dense embeddings"):
        model.embed_sparse("food")
    with pytest.raises(TaskNotSupportedError, match="no cross-encoder"):
        model.score(prompts=["a [SEP] b"])
    with (
        EdgeModel(tiny_token_classifier) as tokens,
        pytest.raises(TaskNotSupportedError, match="cannot score"),
    ):
        tokens.score("a", "b")


def test_the_task_comes_from_the_call_then_the_parameters_then_the_model(model, tiny_embedder) -> None:
    assert model.encode("food").numpy().shape == (1, 32)
    by_params = model.encode("food", PoolingParams(task="token_embed"))
    assert by_params.numpy()[0].shape == (3, 32)
    with pytest.raises(ParamsError, match="You cannot overwrite"):
        model.encode("food", PoolingParams(task="token_embed"), pooling_task="embed")
    with pytest.raises(ParamsError, match="state different tasks"):
        model.encode(["a", "b"], [PoolingParams(task="token_embed"), PoolingParams(task="embed")])
    with EdgeModel(tiny_embedder, task="token_embed") as other:
        assert other.encode("food").numpy()[0].shape == (3, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling_params": PoolingParams(dimensions=8)}, "does not support matryoshka"),
        ({"pooling_params": [PoolingParams()]}, "2 prompts and 1 pooling_params"),
        ({"pooling_params": ["a", "b"]}, r"pooling_params\[0\] is a str"),
        ({"pooling_params": 3}, "pooling_params is a int"),
        ({"prompt_name": "nope"}, "prompt_name='nope' is not stored .* it has 'query'"),
        ({"prompt_name": "query", "prompt": "x"}, "both given"),
        ({"prompt": 3}, "prompt is a int"),
        ({"truncation_side": "middle"}, "truncation_side='middle'"),
        ({"truncate_prompt_tokens": True}, "truncate_prompt_tokens=True"),
        ({"long_text": "cut"}, "long_text='cut'"),
        ({"long_text": "mean", "truncate_prompt_tokens": -1}, "both given"),
    ],
)
def test_wrong_call_arguments(model, arguments, message) -> None:
    with pytest.raises(ParamsError, match=message):
        model.embed(["a", "b"], **arguments)


def test_a_bad_prompt_fails_the_call_before_anything_is_computed(model, monkeypatch) -> None:
    ran = []
    monkeypatch.setattr(type(model._open().engine.answerer), "embeddings", lambda *a: ran.append(a))
    with pytest.raises(PromptError, match="prompt 2 has"):
        model.embed(["a", "b", "city " * 100, "d"])
    with pytest.raises(PromptError, match="prompt 0 is a pair"):
        model.embed({"text": "a", "text_pair": "b"})
    assert ran == []


def test_per_prompt_parameters_do_not_touch_the_callers_objects(model) -> None:
    params = [PoolingParams(normalize=i % 2 == 0) for i in range(len(TEXTS))]
    before = msgspec.json.encode(params)
    rows = model.embed(TEXTS, pooling_params=params).numpy()
    assert msgspec.json.encode(params) == before
    norms = np.linalg.norm(rows, axis=1)
    assert_allclose(norms[::2], 1, atol=1e-6)
    assert (np.abs(norms[1::2] - 1) > 1e-3).all()
    both = model.embed(TEXTS).numpy()
    assert_allclose(rows[::2], both[::2], atol=1e-6)


# what comes back


def test_outputs(model) -> None:
    outputs = model.embed(TEXTS)
    array = outputs.numpy()
    assert array.shape == (len(TEXTS), 32)
    assert array.dtype == np.float32
    assert outputs.numpy() is array
    first = outputs[0]
    assert np.shares_memory(first.outputs.data, array)
    assert first.outputs.embedding == array[0].tolist()
    assert first.outputs.hidden_size == 32
    assert (first.finished, first.num_truncated_tokens, first.num_cached_tokens) == (True, 0, 0)
    assert int(outputs[1].request_id) == int(first.request_id) + 1
    assert [o.request_id for o in outputs[1:3]] == [outputs[1].request_id, outputs[2].request_id]
    assert outputs[-1].prompt_token_ids == outputs[len(TEXTS) - 1].prompt_token_ids
    with pytest.raises(IndexError, match="6 outputs"):
        outputs[6]
    assert isinstance(first, embedge.PoolingRequestOutput)


def test_no_prompts_give_no_outputs(model, cross) -> None:
    assert len(model.embed([])) == 0
    assert model.embed([]).numpy().shape == (0, 32)
    assert list(model.encode([], pooling_task="token_embed")) == []
    assert cross.rerank("q", []) == []
    assert cross.classify([]).numpy().shape == (0, 1)


def test_rows_of_different_sizes_form_no_array(tiny_embedder, tmp_path) -> None:
    bundle = bundles.copy(tiny_embedder, tmp_path)
    bundles.rewrite(bundle, lambda m: msgspec.structs.replace(m, matryoshka=True))
    with EdgeModel(bundle) as loaded:
        outputs = loaded.embed(["a", "b"], pooling_params=[PoolingParams(dimensions=4), PoolingParams()])
    assert [len(o.outputs.data) for o in outputs] == [4, 32]
    with pytest.raises(ShapeError, match=r"different sizes \[4, 32\]"):
        outputs.numpy()


def test_truncation_is_reported(model) -> None:
    output = model.embed("city " * 100, truncate_prompt_tokens=-1)[0]
    assert (len(output.prompt_token_ids), output.num_truncated_tokens) == (48, 54)
    assert (
        len(
            model.embed("city " * 100, pooling_params=PoolingParams(truncate_prompt_tokens=5))[
                0
            ].prompt_token_ids
        )
        == 5
    )


def test_nan_is_reported_with_its_prompt_and_never_returned(tiny_embedder, tmp_path) -> None:
    bundle = bundles.copy(tiny_embedder, tmp_path)

    def poison(graph) -> None:
        from onnx import numpy_helper

        table = next(t for t in graph.graph.initializer if "word_embeddings" in t.name)
        values = numpy_helper.to_array(table).copy()
        values[loaded_id] = np.nan
        table.CopyFrom(numpy_helper.from_array(values, table.name))

    with EdgeModel(bundle) as loaded:
        loaded_id = loaded.embed("berlin")[0].prompt_token_ids[1]
    bundles.edit_graph(bundle, poison)
    with EdgeModel(bundle) as loaded:
        assert np.isfinite(loaded.embed(["food", "city"]).numpy()).all()
        for call in (
            lambda: loaded.embed(["food", "food city water", "berlin"]),
            lambda: loaded.encode(["food", "food city water", "berlin"], pooling_task="token_embed"),
        ):
            with pytest.raises(NumericalError, match="NaN or infinity for prompt 2") as caught:
                call()
            assert caught.value.index == 2
    with EdgeModel(bundle, pooler_config=PoolerConfig(pooling_type="LAST")) as loaded:
        with pytest.raises(NumericalError, match="prompt 1"):
            loaded.embed(["food", "berlin"])


def test_a_pooling_without_one_row_cannot_embed(tiny_embedder) -> None:
    with EdgeModel(tiny_embedder, pooler_config=PoolerConfig(pooling_type="ALL")) as loaded:
        with pytest.raises(ParamsError, match="ALL gives one row per token"):
            loaded.embed("food")


# scores


@pytest.mark.parametrize(
    ("data_1", "data_2", "message"),
    [
        (["a", "b"], ["c", "d", "e"], "Input lengths must be either 1:1, 1:N or N:N"),
        ([], ["a"], "At least one text element must be given"),
        ("a", [], "At least one text_pair element must be given"),
        ("a", ["b", " "], "document 1 is empty"),
        ("", ["b"], "query 0 is empty"),
        ("a", [[1, 2]], "list of token ids"),
        (None, "a", "None"),
    ],
)
def test_scores_of_wrong_sides(model, cross, data_1, data_2, message) -> None:
    for loaded in (model, cross):
        with pytest.raises(PromptError, match=message):
            loaded.score(data_1, data_2)


def test_bi_encoder_scores_are_cosines(model) -> None:
    vectors = model.embed(TEXTS[:2] + TEXTS[3:]).numpy()
    scores = model.score(TEXTS[0], TEXTS[1:2] + TEXTS[3:])
    assert_allclose(scores.numpy(), vectors[1:] @ vectors[0], atol=1e-6)
    assert scores[0].outputs.score == pytest.approx(float(vectors[1] @ vectors[0]), abs=1e-6)
    pairs = model.score(["food", "city"], ["water", "berlin"]).numpy()
    assert_allclose(pairs[1], model.score("city", "berlin").numpy()[0], atol=1e-6)
    with pytest.raises(ParamsError, match="Task embed only supports"):
        model.score("a", "b", pooling_params=PoolingParams(use_activation=False))
    with pytest.raises(ParamsError, match="has no template"):
        model.score("a", "b", instruction="x")


def test_rerank_orders_by_logit_where_scores_round_to_one(tiny_cross_encoder) -> None:
    documents = ["food", "city", "water", "light", "berlin"]
    raw = PoolingParams(use_activation=False)
    with EdgeModel(tiny_cross_encoder, pooler_config=PoolerConfig(logit_bias=-40.0)) as loaded:
        logits = loaded.score("how", documents, pooling_params=raw).numpy()
        ranked = loaded.rerank("how", documents)
    assert {r.score for r in ranked} == {1.0}
    assert [r.index for r in ranked] == list(np.argsort(-logits, kind="stable"))
    assert [r.document for r in ranked] == [documents[r.index] for r in ranked]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.rerank("q", "one text"), PromptError),
        (lambda m: m.rerank(["q"], ["a"]), PromptError),
        (lambda m: m.rerank("q", ["a"], 0), ParamsError),
        (lambda m: m.score("q", "a", truncate="query"), ParamsError),
        (lambda m: m.score("q", "a", prompts=["x"]), ParamsError),
        (lambda m: m.score("q " * 80, "a", truncate="document", truncate_prompt_tokens=-1), PromptError),
        (lambda m: m.score("q " * 80, "a"), PromptError),
    ],
)
def test_wrong_scoring_calls(cross, call, error) -> None:
    with pytest.raises(error):
        call(cross)


def test_compat_021(tiny_embedder, tiny_cross_encoder) -> None:
    with EdgeModel(tiny_embedder, compat="0.21") as loaded:
        raw = loaded.embed("food", pooling_params=PoolingParams(use_activation=False)).numpy()
        assert abs(np.linalg.norm(raw) - 1) > 1e-3
    with EdgeModel(tiny_cross_encoder, compat="0.21") as loaded:
        with pytest.raises(ParamsError, match='use "classify"'):
            loaded.encode("a", pooling_task="score")
        assert loaded.score("a", "b").numpy().shape == (1,)
