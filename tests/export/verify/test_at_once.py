"""Texts in work at the same time: all are answered, in order, and an error ends the rest."""

import threading

import pytest

from embedge_export.threads import num_threads
from embedge_export.verify.at_once import at_once


@pytest.mark.parametrize("threads", [1, 3])
def test_the_answers_come_in_the_order_of_the_items(threads):
    before, seen = num_threads(), []

    def made(text):
        seen.append((text, num_threads()))
        return text.upper()

    assert at_once(made, ["ccc", "a", "bb", "a"], len, threads) == ["CCC", "A", "BB", "A"]
    assert sorted(text for text, _ in seen) == ["a", "a", "bb", "ccc"]
    assert at_once(made, [], len, threads) == []
    assert num_threads() == before
    if threads > 1 and before is not None:
        assert {multiplied_with for _, multiplied_with in seen} == {1}


def test_items_are_in_work_at_the_same_time():
    both = threading.Barrier(2, timeout=30)

    def made(size):
        return both.wait() if size > 1 else -1

    assert sorted(at_once(made, [3, 1, 2], int, 2)) == [-1, 0, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_ends_the_rest(threads):
    def made(size):
        if size == 9:
            raise ValueError("nine")

    with pytest.raises(ValueError, match="nine"):
        at_once(made, [9, *[5] * 50, 1], int, threads)
