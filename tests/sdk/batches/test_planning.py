"""Which prompts run together, and how long their batches are."""

from __future__ import annotations

from embedge._batches.planning import PaddedLength, plan_batches


def test_longest_first_and_within_the_limit() -> None:
    batches = [batch.tolist() for batch in plan_batches([3, 10, 1, 4, 4], 8)]
    assert batches == [[1], [3, 4], [0, 2]]


def test_equal_lengths_keep_their_order() -> None:
    assert [b.tolist() for b in plan_batches([2, 2, 2], 4)] == [[0, 1], [2]]


def test_nothing_to_plan() -> None:
    assert plan_batches([], 8) == []
    assert [b.tolist() for b in plan_batches([0, 0], 1)] == [[0], [1]]


def test_a_padded_length_that_leaves_attention_a_single_row() -> None:
    length = PaddedLength(block=65, max_seq_len=131)
    # nothing is padded beyond 131
    assert {n: length.of(n) for n in range(1, 140) if length.of(n) != n} == {1: 2, 66: 67}


def test_a_padded_length_that_kernels_load_at_once() -> None:
    length = PaddedLength(multiple_of=8, max_seq_len=20)
    assert [length.of(n) for n in (1, 8, 9, 16, 17, 20, 21)] == [8, 8, 16, 16, 20, 20, 21]
    assert PaddedLength(max_seq_len=20).of(7) == 7


def test_no_batch_holds_texts_that_are_computed_in_different_orders() -> None:
    batches = plan_batches([3, 9, 8, 7, 2, 8, 1], 100, switch_lengths=(2, 7))
    assert [batch.tolist() for batch in batches] == [[1, 2, 5], [3, 0], [4, 6]]
    assert [batch.tolist() for batch in plan_batches([7, 7], 100, switch_lengths=(7,))] == [[0, 1]]
