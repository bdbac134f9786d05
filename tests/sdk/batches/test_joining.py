"""Small calls of several threads run together, each as alone; one that comes alone runs at once in its own thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge import CallCancelledError
from embedge._batches.joining import SmallCalls, yield_priority
from embedge._cancelling import CancelScope
from embedge._text.tokens import Encoded


def prompts(*counts: int) -> list[Encoded]:
    return [Encoded(token_ids=[count] * count) for count in counts]


class Graph:
    """Answers with each prompt's length, once it may; a prompt of 13 tokens is refused."""

    def __init__(self, num_workers: int = 1, most: int = 1000) -> None:
        self.ran: list[tuple[str, list[int], int | None]] = []
        self.begun, self.may = threading.Semaphore(0), threading.Semaphore(0)
        self.calls = SmallCalls(self._run, num_workers, lambda _, rows, seq_len, __: rows * seq_len <= most)

    def _run(self, output, encoded, worker):
        counts = [len(each.token_ids) for each in encoded]
        self.ran.append((output, counts, worker))
        self.begun.release()
        assert self.may.acquire(timeout=60)
        if 13 in counts:
            raise KeyError(counts)
        mask = np.array([[i < count for i in range(max(counts))] for count in counts], dtype=np.int64)
        return np.array(counts, dtype=np.float32)[:, None], mask

    def wait_for(self, waiting: int) -> None:
        while len(self.calls._waiting) != waiting:
            self.begun.acquire(timeout=0.001)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as made:
        yield made


def test_one_alone_runs_at_once_in_its_own_thread() -> None:
    graph = Graph(2)
    graph.may.release(2)
    for _ in range(2):
        array, mask = graph.calls.run("a", prompts(3, 5))
        assert array.tolist() == [[3], [5]]
        assert mask.sum(1).tolist() == [3, 5]
    assert graph.ran == [("a", [3, 5], None)] * 2
    assert graph.calls.came == 2


def test_those_that_wait_run_together_where_they_suit(pool) -> None:
    graph = Graph(most=40)
    first = pool.submit(graph.calls.run, "a", prompts(5))
    assert graph.begun.acquire(timeout=60)
    waiting = []
    for output, counts in [("a", [4]), ("b", [4]), ("a", [40]), ("a", [5, 4]), ("a", [6]), ("a", [7] * 5)]:
        waiting.append(pool.submit(graph.calls.run, output, prompts(*counts)))
        graph.wait_for(len(waiting))
    graph.may.release(20)
    assert first.result(60)[0].tolist() == [[5]]
    answers = [each.result(60)[0][:, 0].tolist() for each in waiting]
    assert answers == [[4], [4], [40], [5, 4], [6], [7] * 5]
    assert graph.ran[1:] == [
        ("a", [4, 5, 4, 6], 0),
        ("b", [4], 0),
        ("a", [40], 0),
        ("a", [7] * 5, 0),
    ]
    assert graph.calls._free == [0]


def test_a_worker_takes_its_share_and_leaves_the_next_one_something(pool) -> None:
    graph = Graph(2)
    first = [pool.submit(graph.calls.run, "a", prompts(i)) for i in (4, 5)]
    for _ in first:
        assert graph.begun.acquire(timeout=60)
    waiting = []
    for count in (10, 30, 11, 29, 10, 31, 12, 28):
        waiting.append(pool.submit(graph.calls.run, "a", prompts(count)))
        graph.wait_for(len(waiting))
    graph.may.release()
    assert graph.begun.acquire(timeout=60)
    assert graph.ran[-1][1] == [10, 10, 11, 12]  # half of them, those of its own length
    graph.may.release()
    assert graph.begun.acquire(timeout=60)
    assert graph.ran[-1][1] == [30, 29]
    graph.may.release(20)
    assert [each.result(60)[0].item() for each in waiting] == [10, 30, 11, 29, 10, 31, 12, 28]
    for each in first:
        each.result(60)


def test_each_worker_takes_a_call(pool) -> None:
    graph = Graph(2)
    calls = [pool.submit(graph.calls.run, "a", prompts(i)) for i in (4, 5)]
    assert graph.begun.acquire(timeout=60)
    assert graph.begun.acquire(timeout=60)
    graph.may.release(2)
    assert sorted(each.result(60)[0].item() for each in calls) == [4, 5]
    # the first had all processors, the second what was left
    assert [worker for _, _, worker in graph.ran] == [None, 0]


def test_a_prompt_that_fails_fails_its_own_call_alone(pool) -> None:
    graph = Graph()
    first = pool.submit(graph.calls.run, "a", prompts(5))
    assert graph.begun.acquire(timeout=60)
    waiting = []
    for count in (12, 13, 14):
        waiting.append(pool.submit(graph.calls.run, "a", prompts(count)))
        graph.wait_for(len(waiting))
    graph.may.release(20)
    first.result(60)
    assert waiting[0].result(60)[0].item() == 12
    with pytest.raises(KeyError):
        waiting[1].result(60)
    assert waiting[2].result(60)[0].item() == 14
    assert [counts for _, counts, _ in graph.ran] == [[5], [12, 13, 14], [12], [13], [14]]
    assert graph.calls._free == [0]


def test_a_call_that_waits_may_end(pool) -> None:
    graph, told = Graph(), threading.Event()

    def ended() -> None:
        with CancelScope(asked=told.is_set), pytest.raises(CallCancelledError):
            graph.calls.run("a", prompts(6))

    first = pool.submit(graph.calls.run, "a", prompts(5))
    assert graph.begun.acquire(timeout=60)
    waiting = pool.submit(ended)
    graph.wait_for(1)
    told.set()
    waiting.result(60)
    graph.may.release(2)
    first.result(60)
    assert graph.calls.run("a", prompts(7))[0].item() == 7
    assert [counts for _, counts, _ in graph.ran] == [[5], [7]]


def test_a_call_that_ends_hands_on_what_it_was_just_given() -> None:
    graph = Graph()
    graph.calls._free.clear()

    def ends() -> bool:
        graph.calls._hand_over(0)
        return True

    with CancelScope(asked=ends), pytest.raises(CallCancelledError):
        graph.calls.run("a", prompts(6))
    assert graph.calls._free == [0]


def test_a_call_that_ends_while_it_runs_for_others_leaves_them_theirs(pool) -> None:
    graph, told = Graph(), threading.Event()

    def ended() -> None:
        with CancelScope(asked=told.is_set), pytest.raises(CallCancelledError):
            graph.calls.run("a", prompts(13))

    first = pool.submit(graph.calls.run, "a", prompts(5))
    assert graph.begun.acquire(timeout=60)
    leader = pool.submit(ended)
    graph.wait_for(1)
    other = pool.submit(graph.calls.run, "a", prompts(14))
    graph.wait_for(2)
    graph.may.release()
    first.result(60)
    while len(graph.ran) < 2:
        graph.begun.acquire(timeout=0.001)
    told.set()
    graph.may.release(5)
    leader.result(60)
    assert other.result(60)[0].item() == 14
    assert graph.calls._free == [0]


@pytest.mark.parametrize("kind", ["embed", "classify", "token_classify"])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_threads_get_what_each_gets_alone(load, kind, threads, pool) -> None:
    model = load(kind, threads=threads)
    texts = ["good " * (1 + i % 5) + "river" for i in range(160)]
    alone = [model.encode(text).numpy() for text in texts]
    together = list(pool.map(lambda text: model.encode(text).numpy(), texts))
    for ours, theirs in zip(together, alone, strict=True):
        assert_allclose(ours[0], theirs[0], atol=1e-6)


def test_a_large_call_lets_small_ones_come_first(load, pool) -> None:
    model = load(threads=2, max_batch_tokens=16)
    texts = ["the river " * (1 + i % 3) for i in range(400)]
    alone = model.embed(texts).numpy()
    large = pool.submit(lambda: model.embed(texts).numpy())
    for _ in range(20):
        assert_allclose(model.embed(texts[0]).numpy()[0], alone[0], atol=1e-6)
    assert_allclose(large.result(60), alone, atol=1e-6)
    done = pool.submit(yield_priority)  # where the system has none, nothing happens
    assert done.result(60) is None


def test_no_run_holds_calls_whose_texts_do_not_go_together(pool) -> None:
    graph = Graph()
    graph.calls = SmallCalls(graph._run, 1, lambda _, __, longest, shortest: longest < 10 or shortest >= 10)
    first = pool.submit(graph.calls.run, "a", prompts(5))
    assert graph.begun.acquire(timeout=60)
    waiting = []
    for count in (9, 10, 8, 11):
        waiting.append(pool.submit(graph.calls.run, "a", prompts(count)))
        graph.wait_for(len(waiting))
    graph.may.release(20)
    assert [each.result(60)[0].item() for each in (first, *waiting)] == [5, 9, 10, 8, 11]
    assert [counts for _, counts, _ in graph.ran[1:]] == [[9, 8], [10, 11]]
