"""Calls that end early: by a deadline, by their caller, by asyncio, by a model that is closed."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import threading
import time
import weakref

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tests.sdk.threads_left import threads_left

from embedge import CallCancelledError, DeadlineError, ParamsError, PromptError, SessionError
from embedge._calls.in_asyncio import CallThreads, computed
from embedge._cancelling import check_call

TEXTS = ["the river and the sea " * (1 + i % 3) for i in range(200)]
VERBS = {
    "encode": ("embed", lambda m, **kw: m.encode(TEXTS, **kw)),
    "embed": ("embed", lambda m, **kw: m.embed(TEXTS, **kw)),
    "embed, one": ("embed", lambda m, **kw: m.embed("a text", **kw)),
    "embed, windows": ("embed", lambda m, **kw: m.embed(TEXTS, long_text="mean", **kw)),
    "token_embed": ("embed", lambda m, **kw: m.encode(TEXTS, pooling_task="token_embed", **kw)),
    "embed_sparse": ("sparse", lambda m, **kw: m.embed_sparse(TEXTS, **kw)),
    "classify": ("classify", lambda m, **kw: m.classify(TEXTS, **kw)),
    "score": ("embed", lambda m, **kw: m.score("a", TEXTS, **kw)),
    "rerank": ("embed", lambda m, **kw: m.rerank("a", TEXTS, **kw)),
    "stream": ("embed", lambda m, **kw: list(m.stream(TEXTS, window=20, **kw))),
    "aembed": ("embed", lambda m, **kw: asyncio.run(m.aembed(TEXTS, **kw))),
    "aencode, one": ("embed", lambda m, **kw: asyncio.run(m.aencode("a text", **kw))),
    "arerank": ("embed", lambda m, **kw: asyncio.run(m.arerank("a", TEXTS, **kw))),
    "astream": ("embed", lambda m, **kw: asyncio.run(drained(m.astream(TEXTS, window=20, **kw)))),
}
OPTIONS = {"threads": 2, "max_batch_tokens": 32, "truncate_prompt_tokens": -1}


async def drained(stream) -> list:
    return [output async for output in stream]


def after(count):
    """Says True from the so-manieth question on."""
    asked = []
    return lambda: asked.append(1) or len(asked) > count


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_ends_as_it_is_told_and_the_model_goes_on(name, load) -> None:
    kind, call = VERBS[name]
    model = load(kind, **OPTIONS)
    told = threading.Event()
    told.set()
    with pytest.raises(CallCancelledError, match="cancel"):
        call(model, cancel=told)
    with pytest.raises(CallCancelledError):
        call(model, cancel=lambda: np.bool_(True))
    with pytest.raises(DeadlineError, match="deadline_s=1e-09") as caught:
        call(model, deadline_s=1e-9)
    assert isinstance(caught.value, TimeoutError)
    assert threads_left() == []
    assert len(call(model, deadline_s=np.float32(1000), cancel=threading.Event()))


@pytest.mark.parametrize("name", [name for name in VERBS if "one" not in name])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_ends_between_its_batches(name, threads, load) -> None:
    kind, call = VERBS[name]
    model = load(kind, **OPTIONS | {"threads": threads})
    expected = model.encode(TEXTS).numpy()
    for count in (1, 4, 9):
        with pytest.raises(CallCancelledError):
            call(model, cancel=after(count))
    assert threads_left() == []
    assert_array_equal(model.encode(TEXTS).numpy(), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline_s": 0},
        {"deadline_s": "1"},
        {"deadline_s": True},
        {"deadline_s": float("nan")},
        {"cancel": 1},
    ],
)
def test_wrong_ends_are_named(wrong, load) -> None:
    model = load()
    for call in (
        model.embed,
        model.classify,
        model.stream,
        lambda x, **kw: asyncio.run(model.aembed(x, **kw)),
    ):
        with pytest.raises(ParamsError, match=next(iter(wrong))):
            call("a text", **wrong)


def test_a_stream_ends_in_its_consumers_hands(load) -> None:
    told = threading.Event()
    stream = load(**OPTIONS).stream(TEXTS, window=20, cancel=told)
    next(stream)
    told.set()
    with pytest.raises(CallCancelledError):
        list(stream)
    assert threads_left() == []


def test_request_ids_of_a_stream_are_positions(load) -> None:
    model = load(**OPTIONS)
    model.embed(["before"] * 7)
    expected = [str(i) for i in range(200)]
    assert [o.request_id for o in model.stream(TEXTS, window=30)] == expected

    async def prompts():
        for text in TEXTS:
            yield text

    for given in (TEXTS, prompts()):
        outputs = asyncio.run(drained(model.astream(given, window=30)))
        assert [o.request_id for o in outputs] == expected
        for ours, theirs in zip(outputs, model.embed(TEXTS).numpy(), strict=True):
            np.testing.assert_allclose(ours.outputs.data, theirs, atol=1e-6)


class Endless:
    """A progress bar at which a call stands until it is ended."""

    def __init__(self, begun: threading.Event) -> None:
        self._begun = begun

    def __call__(self, **_):
        return self

    def update(self, _) -> None:
        self._begun.set()
        while not threading.Event().wait(0.001):
            check_call()

    def close(self) -> None:
        pass


def test_a_cancelled_call_gives_its_thread_back(load) -> None:
    model = load(**OPTIONS)

    async def cancelled() -> None:
        begun = threading.Event()
        call = asyncio.create_task(model.aembed(TEXTS, use_tqdm=Endless(begun)))
        while not begun.is_set():
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await model.aembed(TEXTS, use_tqdm=Endless(begun))
        with pytest.raises(DeadlineError):
            await model.aembed(TEXTS, use_tqdm=Endless(begun), deadline_s=0.01)

    asyncio.run(cancelled())
    assert threads_left() == []
    model.close()  # nothing is in flight


def test_many_calls_leave_the_threads_of_asyncio_alone(load) -> None:
    model = load(**OPTIONS)

    async def beside() -> None:
        begun = threading.Event()
        calls = [asyncio.create_task(model.aembed(TEXTS, use_tqdm=Endless(begun))) for _ in range(40)]
        while not begun.is_set():
            await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: 7) == 7
        assert len([t for t in threading.enumerate() if t.name == "embedge-call"]) <= 16
        assert len(await model.aembed("a text")) == 1  # which waits for no large call
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(beside())
    assert threads_left() == []


@pytest.mark.parametrize("most", [1, 2])
def test_small_calls_come_first_and_threads_are_bounded(most) -> None:
    threads = CallThreads(most, 1)
    gate, order, at_once = threading.Event(), [], []

    async def main() -> None:
        def work(name):
            at_once.append(threading.active_count())
            gate.wait(60)
            order.append(name)

        def begin(name: str) -> asyncio.Task:
            large = name.startswith("large")
            return asyncio.create_task(computed(lambda: work(name), large=large, threads=threads))

        calls = [begin(f"large {i}") for i in range(3)]
        await asyncio.sleep(0)
        calls += [begin(f"small {i}") for i in range(3)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*calls)

    before = threading.active_count()
    asyncio.run(main())
    assert max(at_once) <= before + most
    assert [name for name in order if "large" in name] == ["large 0", "large 1", "large 2"]
    if most == 1:
        assert order == ["large 0", "small 0", "small 1", "small 2", "large 1", "large 2"]
    assert len(order) == 6


def test_calls_that_follow_each_other_share_threads_which_end_when_told() -> None:
    threads = CallThreads(4, 1)
    used = []

    async def main() -> None:
        for number in range(20):
            call = computed(
                lambda: used.append(threading.current_thread()), large=bool(number % 2), threads=threads
            )
            await call

    asyncio.run(main())
    assert 1 <= len(set(used)) <= 4
    threads.stop_soon()
    assert threads_left() == []
    used.clear()
    asyncio.run(main())  # a thread that has ended is followed by another
    assert len(used) == 20


def test_a_thread_that_waits_holds_nothing_of_its_last_call() -> None:
    threads = CallThreads(1, 1)
    held = []

    class Prompts(list):
        pass

    async def main() -> None:
        prompts = Prompts()
        held.append(weakref.ref(prompts))
        await computed(prompts.copy, large=False, threads=threads)

    asyncio.run(main())
    while not threads._idle:  # the call is answered before its thread has let go of it
        time.sleep(0.001)
    gc.collect()
    assert held[0]() is None
    assert threads_left() == []


def test_a_call_that_waits_for_a_thread_ends_in_time() -> None:
    threads = CallThreads(1, 1)
    gate = threading.Event()
    ran = []

    async def main() -> None:
        first = asyncio.create_task(computed(lambda: gate.wait(60), large=False, threads=threads))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineError):
            await computed(lambda: ran.append(1), large=False, deadline_s=0.01, threads=threads)
        gate.set()
        await first

    asyncio.run(main())
    assert threads_left() == []
    assert ran == []


def test_an_asyncio_form_has_the_signature_of_its_verb(load) -> None:
    model = load()
    for verb in ("encode", "embed", "embed_sparse", "classify", "score", "rerank"):
        assert inspect.signature(getattr(model, f"a{verb}")) == inspect.signature(getattr(model, verb))
        assert inspect.iscoroutinefunction(getattr(model, f"a{verb}"))


@pytest.mark.parametrize("timeout_s", [0, 0.01])
def test_closing_ends_what_is_in_flight(load, timeout_s) -> None:
    model, begun, ended = load(**OPTIONS), threading.Event(), []

    def call() -> None:
        with pytest.raises(CallCancelledError, match="was closed"):
            model.embed(TEXTS, use_tqdm=Endless(begun))
        ended.append(1)

    thread = threading.Thread(target=call)
    thread.start()
    assert begun.wait(60)
    model.close(timeout_s=timeout_s)
    thread.join()
    assert ended == [1]
    with pytest.raises(SessionError, match="is closed"):
        model.embed("a text")
    model.close()


def test_closing_waits_for_what_is_in_flight(load) -> None:
    model, begun, go_on, rows = load(**OPTIONS), threading.Event(), threading.Event(), []

    class Bar(Endless):
        def update(self, _) -> None:
            begun.set()
            go_on.wait(60)

    thread = threading.Thread(target=lambda: rows.extend(model.embed(TEXTS, use_tqdm=Bar(begun)).numpy()))
    thread.start()
    assert begun.wait(60)
    closing = threading.Thread(target=model.close)
    closing.start()
    while not model._in_flight._closed:
        begun.wait(0.001)
    with pytest.raises(SessionError, match="is closed"):  # no further call begins
        model.embed("a text")
    assert closing.is_alive()
    go_on.set()
    closing.join()
    thread.join()
    assert len(rows) == len(TEXTS)


def test_a_call_may_close_its_model(load) -> None:
    model = load(**OPTIONS)

    class Bar(Endless):
        def update(self, _) -> None:
            model.close()

    assert len(model.embed(TEXTS, use_tqdm=Bar(threading.Event()))) == 200
    with pytest.raises(ParamsError, match="timeout_s=-1"):
        model.close(timeout_s=-1)


def test_leaving_by_ctrl_c_ends_calls(load) -> None:
    model, begun, ended = load(**OPTIONS), threading.Event(), []

    def call() -> None:
        with pytest.raises(CallCancelledError):
            model.embed(TEXTS, use_tqdm=Endless(begun))
        ended.append(1)

    thread = threading.Thread(target=call)

    def leave() -> None:
        with model:
            thread.start()
            assert begun.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    thread.join()
    assert ended == [1]


def test_an_argument_that_cannot_be_counted_is_left_to_the_verb(load) -> None:
    class Uncounted:
        def __len__(self) -> int:
            raise RuntimeError

    with pytest.raises(PromptError):
        asyncio.run(load().aembed(Uncounted()))


def test_an_asynchronous_stream_may_end_with_a_whole_window(load) -> None:
    async def prompts():
        for text in TEXTS[:6]:
            yield text

    assert len(asyncio.run(drained(load(**OPTIONS).astream(prompts(), window=3)))) == 6


def test_an_error_that_comes_when_nobody_waits_is_not_logged(load, caplog) -> None:
    model = load(threads=2, max_batch_tokens=32, truncate_prompt_tokens=-1)
    texts = TEXTS * 10

    async def late() -> None:
        with pytest.raises(DeadlineError):
            await model.aembed(texts, deadline_s=0.001)

    async def cancelled() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(model.aembed(texts, deadline_s=60.0), 0.001)

    async def all_of_them() -> None:
        for _ in range(5):
            await late()
            await cancelled()
        while any(thread.name == "embedge-call" for thread in threading.enumerate()):
            await asyncio.sleep(0.001)

    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        asyncio.run(all_of_them())
        gc.collect()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
