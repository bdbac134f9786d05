"""Batches and padding."""

from __future__ import annotations

from embedge._batching import pad_rows, plan_batches


def test_longest_first_and_within_the_limit() -> None:
    batches = [batch.tolist() for batch in plan_batches([3, 10, 1, 4, 4], 8)]
    assert batches == [[1], [3, 4], [0, 2]]


def test_equal_lengths_keep_their_order() -> None:
    assert [b.tolist() for b in plan_batches([2, 2, 2], 4)] == [[0, 1], [2]]


def test_nothing_to_plan() -> None:
    assert plan_batches([], 8) == []
    assert [b.tolist() for b in plan_batches([0, 0], 1)] == [[0], [1]]


def test_padding_on_both_sides() -> None:
    rows = [[1, 2], [3]]
    right, left = pad_rows(rows, 9, "right"), pad_rows(rows, 9, "left")
    assert (right.tolist(), left.tolist()) == ([[1, 2], [3, 9]], [[1, 2], [9, 3]])
    assert right.dtype == left.dtype == "int64"
