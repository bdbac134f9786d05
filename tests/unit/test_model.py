"""EdgeModel: refusals, per-prompt parameters, outputs, threads, streams."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose

import bundles
import embedge
from embedge import (
    LLM,
    BundleError,
    EdgeModel,
    IntegrityError,
    ManifestError,
    NumericalError,
    ParamsError,
    PoolerConfig,
    PoolingParams,
    PromptError,
    ProviderUnavailableError,
    SessionError,
    ShapeError,
    TaskNotSupportedError,
)

TEXTS = ["food", "how do plants carry water", "", "city light " * 10, "🙂", "berlin"]


@pytest.fixture(scope="module")
def model(tiny_embedder):
    with EdgeModel(tiny_embedder, device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def cross(tiny_cross_encoder):
    with EdgeModel(tiny_cross_encoder, device="cpu") as loaded:
        yield loaded


# what is loaded


def test_nothing_there(tmp_path) -> None:
    with pytest.raises(BundleError, match="no bundle at .*Make one with: embedge export nope"):
        EdgeModel("nope")
    with pytest.raises(BundleError, match="no bundle at"):
        EdgeModel(tmp_path / "nope" / "no such")
    with pytest.raises(BundleError, match=r"no manifest.json"):
        EdgeModel(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="Hugging Face checkpoint"):
        EdgeModel(tmp_path)
    with pytest.raises(BundleError, match="is a file"):
        EdgeModel(tmp_path / "config.json")


def test_stored_names_are_found(tiny_embedder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path))
    bundles.copy(tiny_embedder, tmp_path).rename(tmp_path / "stored")
    for name in ("stored", "organisation/stored"):
        assert EdgeModel(name).info.name == "tiny"


def test_a_newer_schema_is_refused(tiny_embedder, tmp_path) -> None:
    bundle = bundles.copy(tiny_embedder, tmp_path)
    manifest = bundle / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(
        ManifestError, match=r"schema_version 99; this embedge reads 1. Install the embedge version \d"
    ):
        EdgeModel(bundle)
    manifest.write_text(text.replace('"schema_version": 1', '"schema_version": 0'))
    with pytest.raises(ManifestError, match="Export the model again"):
        EdgeModel(bundle)
    manifest.write_text(text.replace('"hidden_size"', '"hiden_size"'))
    with pytest.raises(ManifestError, match="hiden_size"):
        EdgeModel(bundle)
    manifest.write_text(text[: len(text) // 2])
    with pytest.raises(ManifestError, match="not a valid manifest"):
        EdgeModel(bundle)
    manifest.write_text(text.replace('"max_seq_len": 48', '"max_seq_len": 47'))
    with pytest.raises(ManifestError, match="was changed after export"):
        EdgeModel(bundle)


@pytest.mark.parametrize("name", ["tokenizer.json", "onnx/model.onnx"])
def test_damaged_files_are_named(tiny_embedder, tmp_path, name) -> None:
    bundle = bundles.copy(tiny_embedder, tmp_path)
    record = EdgeModel(bundle).manifest.files[name]
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[:-20] + bytes(20))
    with pytest.raises(IntegrityError, match=f"{name} was altered.*{record.sha256}") as caught:
        EdgeModel(bundle)
    assert caught.value.file == name
    assert caught.value.expected_sha256 == record.sha256 != caught.value.actual_sha256
    (bundle / name).write_bytes(data[:-20])
    with pytest.raises(IntegrityError, match=f"{len(data) - 20} bytes; the manifest expects {len(data)}"):
        EdgeModel(bundle)
    (bundle / name).unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        EdgeModel(bundle)


def test_a_graph_that_onnxruntime_refuses(tiny_embedder, tmp_path) -> None:
    bundle = bundles.copy(tiny_embedder, tmp_path)
    (bundle / "onnx" / "model.onnx").write_bytes(b"no graph")
    bundles.rewrite(bundle)
    with pytest.raises(SessionError, match=r"cannot load model.onnx"):
        EdgeModel(bundle)
    (bundle / "tokenizer.json").write_bytes(b"{}")
    bundles.rewrite(bundle)
    with pytest.raises(BundleError, match="cannot be read by tokenizers"):
        EdgeModel(bundle)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "gpu"}, ParamsError, "device='gpu' is not known"),
        ({"device": "cpu:1"}, ParamsError, "device='cpu:1'"),
        ({"device": None}, ParamsError, "device=None"),
        ({"variant": "int9"}, ParamsError, "expected one of fp32, or 'auto'"),
        ({"threads": 0}, ParamsError, "threads=0"),
        ({"max_batch_tokens": 1.5}, ParamsError, "max_batch_tokens=1.5"),
        ({"max_model_len": 49}, ParamsError, "takes 1 to 48 tokens"),
        ({"profile": "fast"}, ParamsError, "latency, throughput, background"),
        ({"compat": "0.9"}, ParamsError, "compat='0.9'"),
        ({"runner": "generate"}, ParamsError, "only pools"),
        ({"pooler_config": 3}, ParamsError, "pooler_config is a int; expected PoolerConfig or None"),
        ({"task": "classify"}, TaskNotSupportedError, "its tasks are embed, token_embed"),
        ({"task": "chat"}, ParamsError, "task='chat' is not known"),
        ({"truncate_prompt_tokens": 49}, ParamsError, "truncate_prompt_tokens=49"),
        ({"truncate_prompt_tokens": "a"}, ParamsError, "truncate_prompt_tokens"),
        ({"pooling_plugin": "nope"}, embedge.PluginError, "'nope' is not registered"),
        ({"foo": 1}, TypeError, "foo"),
    ],
)
def test_wrong_arguments(tiny_embedder, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        EdgeModel(tiny_embedder, **arguments)


def test_cuda_is_refused_where_there_is_none(tiny_embedder) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ProviderUnavailableError, match="Install onnxruntime-gpu"):
        EdgeModel(tiny_embedder, device="cuda")


def test_info_says_what_runs(model) -> None:
    assert LLM is EdgeModel
    info = model.info
    assert (info.variant, info.device, info.execution_provider) == ("fp32", "cpu", "CPUExecutionProvider")
    assert info.fingerprint == model.manifest.fingerprint
    assert repr(model) == "EdgeModel('tiny', variant='fp32', device='cpu')"


def test_closed(tiny_embedder) -> None:
    with EdgeModel(tiny_embedder) as loaded:
        loaded.embed("food")
    with pytest.raises(SessionError, match="is closed"):
        loaded.embed("food")


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
    assert_allclose(scores.numpy()[:, 0], vectors[1:] @ vectors[0], atol=1e-6)
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
        logits = loaded.score("how", documents, pooling_params=raw).numpy()[:, 0]
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
        assert loaded.score("a", "b").numpy().shape == (1, 1)


# threads, streams, asyncio


def test_one_model_serves_many_threads(model) -> None:
    expected = [model.embed(TEXTS[: i % 6 + 1]).numpy() for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        actual = list(pool.map(lambda i: model.embed(TEXTS[: i % 6 + 1]), range(24)))
    for a, e in zip(actual, expected, strict=True):
        assert_allclose(a.numpy(), e, atol=1e-6)
    ids = [o.request_id for outputs in actual for o in outputs]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("profile", ["latency", "throughput", "background"])
def test_profiles_give_the_same_numbers(model, tiny_embedder, profile) -> None:
    many = TEXTS * 40
    with EdgeModel(tiny_embedder, profile=profile, threads=2, max_batch_tokens=64) as loaded:
        assert_allclose(loaded.embed(many).numpy(), model.embed(many).numpy(), atol=1e-6)
    assert not [t for t in threading.enumerate() if t.name.startswith("embedge")]


def test_stream_is_lazy_and_in_order(model) -> None:
    taken = []

    def texts():
        for i in range(50):
            taken.append(i)
            yield TEXTS[i % 6]

    stream = model.stream(texts(), window=5)
    assert taken == []
    first = next(stream)
    assert len(taken) == 10
    rest = [first, *stream]
    assert_allclose(
        np.stack([o.outputs.data for o in rest]),
        model.embed([TEXTS[i % 6] for i in range(50)]).numpy(),
        atol=1e-6,
    )


def test_stream_holds_the_same_memory_whatever_its_length(model) -> None:
    taken = 0

    def texts():
        nonlocal taken
        for i in range(12_000):
            taken += 1
            yield f"city {i}"

    held = {}
    tracemalloc.start()
    try:
        for received, _ in enumerate(model.stream(texts(), window=100), 1):
            assert taken - received < 200
            if received in (4_000, 11_600):
                held[received] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert received == 12_000
    # the 7,600 prompts between would take 2 MB with their vectors
    assert held[11_600] - held[4_000] < 300_000
    assert not [t for t in threading.enumerate() if t.name.startswith("embedge")]


def test_a_stream_that_is_closed_early_leaves_no_thread(model) -> None:
    stream = model.stream((TEXTS[i % 6] for i in range(5000)), window=500)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("embedge")]


def test_stream_names_prompts_by_their_place_in_the_stream(model) -> None:
    with pytest.raises(PromptError, match="prompt 7 of the stream") as caught:
        list(model.stream(["a"] * 7 + ["city " * 100], window=3))
    assert caught.value.index == 7
    with pytest.raises(PromptError, match="prompt 4 is int 3"):
        list(model.stream(iter(["a", "b", "c", "d", 3]), window=2))
    assert list(model.stream([])) == []
    assert [o.prompt_token_ids for o in model.stream("food")] == [model.embed("food")[0].prompt_token_ids]
    with pytest.raises(ParamsError, match="window=0"):
        model.stream([], window=0)
    with pytest.raises(ParamsError, match="one PoolingParams"):
        model.stream([], [PoolingParams()])


def test_asyncio_verbs(model, cross) -> None:
    async def both():
        return await asyncio.gather(model.aembed(TEXTS), cross.arerank("q", ["a", "b"]))

    embedded, ranked = asyncio.run(both())
    assert_allclose(embedded.numpy(), model.embed(TEXTS).numpy(), atol=1e-6)
    assert len(ranked) == 2


def test_progress(model, capsys) -> None:
    model.embed(TEXTS, use_tqdm=True)
    line = capsys.readouterr().err
    assert "6/6" in line
    calls = []

    class Bar:
        def __init__(self, total, desc) -> None:
            calls.append((total, desc))

        def update(self, count) -> None:
            calls.append(count)

        def close(self) -> None:
            calls.append("closed")

    model.embed(TEXTS, use_tqdm=Bar)
    assert calls[0] == (6, "embed")
    assert sum(c for c in calls if isinstance(c, int)) == 6
    assert calls[-1] == "closed"
    assert capsys.readouterr().err == ""
