"""Work ahead on threads: order, first failure, early end."""

from __future__ import annotations

import threading

import pytest

from embedge._cancelling import CancelScope, check_call, current_halt
from embedge._workers import interruptibly, pipeline, start
from embedge.errors import CallCancelledError


def alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("embedge")]


def test_start_gives_the_result_or_the_error() -> None:
    assert start(lambda: 7)() == 7
    wait = start(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        wait()


def test_a_pipeline_keeps_order_and_runs_no_more_than_two_items_ahead() -> None:
    taken, prepared, computed = [], [], []

    def items():
        for i in range(30):
            taken.append(i)
            yield i

    def compute(item: int) -> int:
        computed.append(item)
        return item * 10

    results = pipeline(items(), lambda i: prepared.append(i) or i, compute)
    assert taken == []
    for i, result in enumerate(results):
        assert result == i * 10
        assert len(taken) <= i + 2
    assert taken == computed == sorted(prepared) == list(range(30))
    assert alive() == []


def test_the_next_item_is_computed_while_the_consumer_is_at_the_last() -> None:
    second = threading.Event()

    def compute(item: int) -> int:
        if item == 2:
            second.set()
        return item

    results = pipeline(iter([1, 2, 3]), lambda i: i, compute)
    assert next(results) == 1
    assert second.wait(timeout=60)
    assert list(results) == [2, 3]


@pytest.mark.parametrize("where", ["items", "prepare", "compute"])
def test_an_error_comes_after_the_earlier_results(where) -> None:
    def fail_at(place: str, item: int) -> int:
        if place == where and item == 3:
            raise KeyError(place)
        return item

    results = pipeline(
        (fail_at("items", i) for i in range(9)),
        lambda i: fail_at("prepare", i),
        lambda i: fail_at("compute", i),
    )
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match=where):
        next(results)
    assert alive() == []


def test_a_consumer_that_stops_ends_the_computation_under_way() -> None:
    begun = threading.Event()
    ends = []

    def compute(item: int) -> int:
        if item == 1:
            begun.set()
            ends.append(current_halt().stopped.wait(timeout=60))
            check_call()
        return item

    results = pipeline(iter(range(9)), lambda i: i, compute)
    assert next(results) == 0
    assert begun.wait(timeout=60)
    results.close()
    assert ends == [True]
    assert alive() == []


def test_an_item_that_was_only_prepared_when_the_consumer_left_is_not_computed() -> None:
    first_computed, computed = threading.Event(), []

    def prepare(item: int) -> int:
        if item == 2:
            first_computed.wait()
            current_halt().stopped.wait(timeout=60)
        return item

    def compute(item: int) -> int:
        computed.append(item)
        first_computed.set()
        return item

    results = pipeline(iter([1, 2, 3]), prepare, compute)
    assert next(results) == 1
    results.close()
    assert computed == [1]


def test_what_cannot_be_told_is_left_to_itself() -> None:
    begun, go_on, left = threading.Event(), threading.Event(), []

    def compute() -> None:
        begun.set()
        go_on.wait(60)
        left.append(1)

    with CancelScope(asked=begun.is_set), pytest.raises(CallCancelledError):
        interruptibly(compute, leave=True)
    assert left == []
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("embedge"):
            thread.join()
    assert left == [1]
    with CancelScope(asked=begun.is_set), pytest.raises(CallCancelledError):
        interruptibly(compute)
    assert left == [1]


def test_a_scope_ends_with_the_one_that_it_was_made_in() -> None:
    outer = CancelScope()
    with outer:
        inner = CancelScope(1e9)
        with inner:
            check_call()
            outer.cancel("why")
            with pytest.raises(CallCancelledError, match="why"):
                check_call()
    assert inner.begun == outer.begun
    assert outer.holds(inner)
    assert not inner.holds(outer)
    check_call()
