"""One model object for many threads and tasks at once, and nothing of the caller's is changed."""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.sdk.threads_left import threads_left

from embedge import (
    DeviceMemoryError,
    NumericalError,
    PoolerConfig,
    PoolingParams,
    SessionError,
    register_pooling,
)

WORDS = ["the", "river", "is", "cold", "good", "bad", "city", "light", "old", "no"]
TEXTS = [" ".join(WORDS[(i * k) % 10] for k in range(1, 2 + i % 17)) for i in range(60)]
THREADS = 8


@register_pooling("test-threads")
def sums(prompts):
    return [p.hidden_states.sum(0) * p.extra_kwargs["scale"] for p in prompts]


def together(calls) -> list:
    """Results of calls that start at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return [call() for _ in range(3)]

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(run, call) for call in calls]]


@pytest.mark.parametrize("profile", ["latency", "throughput"])
def test_every_verb_from_many_threads_on_one_object(load, profile) -> None:
    model = load(
        bundle={"changes": {"matryoshka": True}},
        threads=2,
        max_batch_tokens=64,
        profile=profile,
        pooling_plugin="test-threads",
    )
    shared = PoolingParams(normalize=False)
    sized = [PoolingParams(dimensions=1 + i % 8) for i in range(len(TEXTS))]
    plugged = PoolingParams(task="plugin", extra_kwargs={"scale": 2.0})
    calls = [
        lambda: model.embed(TEXTS, pooling_params=shared).numpy(),
        lambda: model.embed(TEXTS[:3], pooling_params=shared).numpy(),
        lambda: [o.outputs.data for o in model.embed(TEXTS, pooling_params=sized)],
        lambda: model.encode(TEXTS, shared, pooling_task="token_embed").numpy(),
        lambda: model.encode(TEXTS, plugged).numpy(),
        lambda: model.score(TEXTS[0], TEXTS).numpy(),
        lambda: [o.outputs.data for o in model.stream(TEXTS, shared, window=7)],
        lambda: np.array([r.score for r in model.rerank(TEXTS[1], TEXTS)]),
    ]
    assert len(calls) == THREADS
    expected = [call() for call in calls]
    for results, alone in zip(together(calls), expected, strict=True):
        for result in results:
            assert len(result) == len(alone)
            for ours, theirs in zip(result, alone, strict=True):
                assert_allclose(ours, theirs, atol=1e-6)
    assert shared == PoolingParams(normalize=False)
    assert plugged == PoolingParams(task="plugin", extra_kwargs={"scale": 2.0})
    assert not [t for t in threading.enumerate() if t.name.startswith("embedge-worker")]


def test_request_ids_are_never_given_twice(load) -> None:
    model = load()
    results = together([lambda: model.embed(TEXTS[:5])] * THREADS)
    ids = [output.request_id for outputs in results for batch in outputs for output in batch]
    assert len(ids) == len(set(ids)) == THREADS * 3 * 5


def test_an_error_in_one_thread_leaves_the_others_alone(load) -> None:
    model = load(threads=2, max_batch_tokens=64)
    expected = model.embed(TEXTS).numpy()

    def fails() -> str:
        with pytest.raises(ValueError, match="prompt 1 has"):
            model.embed(["a", "the " * 99])
        with pytest.raises(Exception, match="NaN or infinity for prompt 30"):
            model.embed([*TEXTS[:30], "nan", *TEXTS[30:]])
        return "failed"

    results = together([fails, lambda: model.embed(TEXTS).numpy()] * 3)
    assert results[0::2] == [["failed"] * 3] * 3
    for rows in (rows for batch in results[1::2] for rows in batch):
        assert_allclose(rows, expected, atol=1e-6)


def test_nothing_of_the_callers_is_changed(load) -> None:
    pooler = PoolerConfig(pooling_type="STEP", step_tag_id=7, returned_token_ids=[1, 0])
    given = {
        "prompts": ["the river .", {"prompt": "cold ."}, [2, 7, 3], {"prompt_token_ids": [2, 9, 3]}],
        "params": [
            PoolingParams(),
            PoolingParams(step_tag_id=9),
            PoolingParams(use_activation=False),
            PoolingParams(),
        ],
        "pooler": pooler,
    }
    before = copy.deepcopy(given)
    model = load("reward", pooler_config=pooler)
    outputs = model.encode(given["prompts"], given["params"], pooling_task="token_classify")
    for output in outputs:
        output.prompt_token_ids.append(0)
    assert outputs[2].prompt_token_ids[:3] == [2, 7, 3]
    model.model_config.pooler_config.returned_token_ids.append(5)
    pooler.returned_token_ids.append(9)
    assert model.model_config.pooler_config.returned_token_ids == [1, 0]
    pooler.returned_token_ids.pop()
    assert given == before


def test_a_plugin_cannot_reach_the_callers_kwargs(load) -> None:
    @register_pooling("test-greedy")
    def greedy(prompts):
        for p in prompts:
            p.extra_kwargs["scale"].append(1)
            p.token_ids[:] = 0
        return [p.hidden_states[0] for p in prompts]

    model = load(pooling_plugin="test-greedy")
    params = PoolingParams(task="plugin", extra_kwargs={"scale": []})
    ids = [[2, 9, 3], [2, 8, 3]]
    outputs = model.encode(ids, params)
    assert params.extra_kwargs == {"scale": []}
    assert ids == [[2, 9, 3], [2, 8, 3]]
    assert [output.prompt_token_ids for output in outputs] == ids


def test_coroutines_share_the_model(load) -> None:
    model = load(threads=2, max_batch_tokens=64)

    async def many():
        return await asyncio.gather(*(model.aembed(TEXTS[i : i + 20]) for i in range(0, 60, 10)))

    for i, outputs in enumerate(asyncio.run(many())):
        assert_allclose(outputs.numpy(), model.embed(TEXTS[i * 10 : i * 10 + 20]).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["embed", "sparse", "token_classify", "classify"])
def test_a_call_that_fails_leaves_no_thread_even_while_its_error_is_kept(load, kind) -> None:
    kept = []
    for pooler in (None, PoolerConfig(pooling_type="MAX")) if kind == "embed" else (None,):
        model = load(kind, threads=2, max_batch_tokens=16, pooler_config=pooler)
        with pytest.raises(NumericalError) as caught:
            model.encode(["nan", *TEXTS])
        kept.append(caught.value)
        assert not threads_left()
    assert kept


def test_a_caller_that_stops_a_call_leaves_no_thread(load) -> None:
    class Bar:
        def __init__(self, **_) -> None:
            pass

        def update(self, _) -> None:
            raise KeyboardInterrupt

        def close(self) -> None:
            pass

    model = load(threads=2, max_batch_tokens=16)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.embed(TEXTS, use_tqdm=Bar)
    assert not threads_left()
    assert caught.value is not None
    assert len(model.embed(TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("left", [0, 1])
def test_a_system_without_threads_is_named_and_no_worker_stays(load, monkeypatch, left) -> None:
    model = load(threads=2, max_batch_tokens=16)
    expected = model.embed(TEXTS).numpy()
    start, begun = threading.Thread.start, []

    def limited(thread) -> None:
        if thread.name.startswith("embedge") and len(begun) >= left:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(SessionError, match="no further thread"):
        model.embed(TEXTS)
    monkeypatch.undo()
    assert not threads_left()

    def fails(thread) -> None:
        raise RuntimeError("can't start new thread")

    async def without_threads() -> None:
        monkeypatch.setattr(threading.Thread, "start", fails)
        with pytest.raises(SessionError, match="no further thread"):
            await model.aembed("a")
        monkeypatch.undo()
        assert len(await model.aembed("a")) == 1

    asyncio.run(without_threads())
    assert_allclose(model.embed(TEXTS).numpy(), expected, atol=1e-6)


def test_a_machine_without_memory_is_named(load) -> None:
    class Bar:
        def __init__(self, **_) -> None:
            pass

        def update(self, _) -> None:
            raise MemoryError

        def close(self) -> None:
            pass

    model = load(threads=2, max_batch_tokens=16)
    with pytest.raises(DeviceMemoryError, match="no memory left for this call"):
        model.embed(TEXTS, use_tqdm=Bar)
    assert not threads_left()
    assert len(model.embed(TEXTS)) == len(TEXTS)
