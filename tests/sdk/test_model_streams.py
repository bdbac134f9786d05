"""EdgeModel: threads, streams, asyncio, progress."""

from __future__ import annotations

import asyncio
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.sdk.asked import TEXTS
from tests.sdk.threads_left import threads_left

from embedge import EdgeModel, NumericalError, ParamsError, PoolingParams, PromptError


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
    assert not threads_left()


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
    assert not threads_left()


def test_a_stream_that_is_closed_early_leaves_no_thread(model) -> None:
    stream = model.stream((TEXTS[i % 6] for i in range(5000)), window=500)
    next(stream)
    stream.close()
    assert not threads_left()


def test_errors_name_prompts_by_their_place_in_the_whole_call(load) -> None:
    """Not by that in the window of a stream, nor by that among the parts of long texts."""
    model = load()
    with pytest.raises(NumericalError, match=r"returned NaN or infinity for prompt 7\. A half") as caught:
        list(model.stream(["a"] * 7 + ["nan"], window=3))
    assert caught.value.index == 7
    long = "city " * 100
    with pytest.raises(NumericalError, match=r"for prompt 2\.") as caught:
        model.embed([long, "a", f"{long} nan", "a"], long_text="mean")
    assert caught.value.index == 2
    pair = {"text": "a", "text_pair": long}
    with pytest.raises(PromptError, match=r"^(pair|prompt) 4 has 104 tokens") as caught:
        list(load("classify").stream(["a"] * 4 + [pair], window=3))
    assert caught.value.index == 4


def test_stream_names_prompts_by_their_place_in_the_stream(model) -> None:
    with pytest.raises(PromptError, match=r"^prompt 7 has \d+ tokens; the model's limit is") as caught:
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
