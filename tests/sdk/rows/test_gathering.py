"""Rows that come batch by batch, back in the order of the prompts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from embedge._rows.gathering import gather, gather_each

ROWS = np.arange(15, dtype=np.float32).reshape(5, 3)


def batches(ended: list[bool], *groups: list[int]):
    try:
        for positions in groups:
            yield np.array(positions), ROWS[positions]
    finally:
        ended.append(True)


@pytest.mark.parametrize("row_size", [3, 0])
def test_rows_stand_in_the_order_of_their_positions(row_size) -> None:
    done, ended = [], []
    gathered = gather(batches(ended, [4, 1], [0], [3, 2]), 5, row_size, done.append)
    assert_array_equal(gathered, ROWS)
    assert (done, ended) == ([2, 1, 2], [True])
    assert_array_equal(gather(batches(ended, [0]), 1, row_size, done.append), ROWS[:1])
    assert gather(batches(ended), 0, 3, done.append).shape == (0, 3)


def test_rows_that_are_finished_one_by_one_may_differ_in_size() -> None:
    done, ended = [], []
    gathered = gather_each(
        batches(ended, [2, 0], [1]), 3, lambda row, position: row[: position + 1], done.append
    )
    assert [row.tolist() for row in gathered] == [[0], [3, 4], [6, 7, 8]]
    assert (done, ended) == ([2, 1], [True])


def test_batches_end_with_whoever_counts_them() -> None:
    ended = []

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    for gathering in (gather, lambda *given: gather_each(*given[:2], lambda row, _: row, given[3])):
        with pytest.raises(KeyboardInterrupt):
            gathering(batches(ended, [1, 0], [2]), 3, 3, stop)
    assert ended == [True, True]
