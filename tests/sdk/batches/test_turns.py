"""Large calls of one model that come at once: bounded threads and memory, and the same answers."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from embedge._batches.turns import Turns
from embedge._cancelling import CancelScope
from embedge.errors import DeadlineError

_TEXTS = ["the river and the sea " * (1 + i % 5) for i in range(240)]


def test_no_more_batches_at_once_than_there_are_turns() -> None:
    turns, running, most, lock = Turns(2), [0], [0], threading.Lock()

    def work() -> None:
        for _ in range(5):
            with turns.turn():
                with lock:
                    running[0] += 1
                    most[0] = max(most[0], running[0])
                time.sleep(0.001)
                with lock:
                    running[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [2]
    assert running == [0]


def test_who_waits_for_a_turn_can_be_ended() -> None:
    turns = Turns(1)
    with turns.turn(), CancelScope(deadline_s=0.0), pytest.raises(DeadlineError), turns.turn():
        raise AssertionError("two had the only turn")
    with turns.turn():  # it was given back
        pass


def test_a_call_gets_its_share_of_the_lanes() -> None:
    turns = Turns(4)
    with turns.call(4) as first, turns.call(4) as second, turns.call(2) as third, turns.call(1) as fourth:
        assert (first, second, third, fourth) == (4, 3, 1, 1)
    with turns.call(4) as alone:
        assert alone == 4


def test_many_calls_begin_few_threads(load) -> None:
    model = load(threads=2, max_batch_tokens=64)
    expected = model.embed(_TEXTS).numpy()
    before, calls = threading.active_count(), 24
    most, answers = [0], []

    def call() -> None:
        answers.append(model.embed(_TEXTS).numpy())

    threads = [threading.Thread(target=call) for _ in range(calls)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most[0] = max(most[0], threading.active_count())
        time.sleep(0.005)
    # two lanes for each call were forty-eight besides the callers' own
    assert most[0] - before - calls <= 8
    assert len(answers) == calls
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=1e-5)
