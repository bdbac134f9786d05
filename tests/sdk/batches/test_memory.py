"""Runs that have memory together, and what a run is held to take."""

from __future__ import annotations

import threading

import pytest

from embedge._batches.memory import BatchMemory, Share
from embedge._cancelling import CancelScope
from embedge.errors import CallCancelledError, PromptError

_MIB = 1 << 20


def test_rows_fit_and_one_more_does_not() -> None:
    memory = BatchMemory(numbers_per_token=4000, score_heads=12, limit_bytes=64 * _MIB)
    for seq_len in (16, 128, 300):
        rows = memory.most_rows(seq_len)
        assert memory.needed_bytes(rows, seq_len) <= 64 * _MIB < memory.needed_bytes(rows + 1, seq_len)


def test_scores_count_with_the_square_of_the_length() -> None:
    memory = BatchMemory(numbers_per_token=1, score_heads=12, limit_bytes=64 * _MIB)
    scores = 12 * 1000 * 1000 * 4
    assert memory.needed_bytes(1, 1000) > 3 * scores
    assert memory.needed_bytes(2, 500) < memory.needed_bytes(1, 1000)


def test_a_text_that_does_not_fit_is_refused_with_the_length_that_does() -> None:
    memory = BatchMemory(numbers_per_token=4000, score_heads=0, limit_bytes=10 * _MIB)
    with pytest.raises(
        PromptError, match=r"prompt 7 has 5,000 tokens.*max_memory_mb=10 is enough for 262"
    ) as raised:
        memory.check(5000, 7)
    assert raised.value.index == 7
    memory.check(262, 7)
    with pytest.raises(PromptError):
        memory.check(263, 7)


def test_runs_that_do_not_fit_together_wait_for_one_another() -> None:
    share = Share(100)
    began, entered = threading.Event(), threading.Event()

    def other() -> None:
        began.set()
        with share.taking(60):
            entered.set()

    with share.taking(30), share.taking(30):
        thread = threading.Thread(target=other)
        thread.start()
        began.wait(10)
        assert not entered.wait(0.1)
    thread.join(10)
    assert entered.is_set()


def test_who_waits_can_be_told_to_end() -> None:
    share, scope = Share(100), CancelScope()

    def other() -> None:
        with scope, share.taking(100):
            raise AssertionError("there was no memory")

    with share.taking(1):
        scope.cancel("the call was cancelled")
        with pytest.raises(CallCancelledError):
            other()
