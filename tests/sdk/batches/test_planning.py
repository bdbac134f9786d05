"""Batches and padding."""

from __future__ import annotations

import numpy as np
import pytest

from embedge._batches.planning import PaddedLength, plan_batches
from embedge._text.tokens import Encoded, EncodedRows, batch_of_one, widened


def test_longest_first_and_within_the_limit() -> None:
    batches = [batch.tolist() for batch in plan_batches([3, 10, 1, 4, 4], 8)]
    assert batches == [[1], [3, 4], [0, 2]]


def test_equal_lengths_keep_their_order() -> None:
    assert [b.tolist() for b in plan_batches([2, 2, 2], 4)] == [[0, 1], [2]]


def test_nothing_to_plan() -> None:
    assert plan_batches([], 8) == []
    assert [b.tolist() for b in plan_batches([0, 0], 1)] == [[0], [1]]


def test_padding_on_both_sides() -> None:
    rows = EncodedRows.of([Encoded(token_ids=[1, 2]), Encoded(token_ids=[3])])
    for side, ids, mask in (
        ("right", [[1, 2], [3, 9]], [[1, 1], [1, 0]]),
        ("left", [[1, 2], [9, 3]], [[1, 1], [0, 1]]),
    ):
        batch = rows.batch(np.array([0, 1]), 9, side)
        assert (batch.input_ids.tolist(), batch.attention_mask.tolist()) == (ids, mask)
        assert batch.input_ids.dtype == batch.attention_mask.dtype == "int64"
        assert batch.type_ids is None


PROMPTS = [
    Encoded(token_ids=[4, 5, 6], num_truncated=7, num_prompt_tokens=2, num_truncated_query=3),
    Encoded(token_ids=[1, 2], type_ids=[0, 1], offsets=[(0, 0), (0, 4)]),
    Encoded(token_ids=[8, 9, 9, 9], num_attended=2),
]
FIELDS = Encoded.__struct_fields__


def fields(encoded: Encoded) -> list[object]:
    return [getattr(encoded, name) for name in FIELDS]


def test_rows_give_back_every_prompt() -> None:
    whole = EncodedRows.of(PROMPTS)
    parts = EncodedRows.concatenate([EncodedRows.of(PROMPTS[:1]), EncodedRows.of(PROMPTS[1:])])
    for rows in (whole, parts):
        assert len(rows) == 3
        assert [fields(e) for e in rows] == [fields(e) for e in PROMPTS]
        assert fields(rows[-1]) == fields(PROMPTS[-1])
        assert [fields(e) for e in rows[1:]] == [fields(e) for e in PROMPTS[1:]]
        with pytest.raises(IndexError):
            rows[3]
    assert len(EncodedRows.concatenate([])) == 0


@pytest.mark.parametrize("side", ["left", "right"])
def test_segments_and_attention_follow_the_padding(side) -> None:
    batch = EncodedRows.of(PROMPTS).batch(np.array([2, 1]), 0, side)
    assert batch.input_ids.tolist() == [[8, 9, 9, 9], [1, 2, 0, 0] if side == "right" else [0, 0, 1, 2]]
    assert batch.attention_mask.tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0] if side == "right" else [0, 0, 1, 1],
    ]
    assert batch.type_ids is not None
    assert batch.type_ids.tolist() == [[0] * 4, [0, 1, 0, 0] if side == "right" else [0, 0, 0, 1]]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_one_prompt_is_a_batch_without_padding(prompt) -> None:
    alone, gathered = batch_of_one(prompt), EncodedRows.of([prompt]).batch(np.array([0]), 0, "right")
    for name in TYPES:
        one, other = getattr(alone, name), getattr(gathered, name)
        assert (one is None) == (other is None)
        assert one is None or (one.tolist() == other.tolist() and one.dtype == other.dtype == "int64")


TYPES = ("input_ids", "attention_mask", "type_ids")


def test_a_padded_length_that_leaves_attention_a_single_row() -> None:
    length = PaddedLength(block=65, max_seq_len=131)
    # nothing is padded beyond 131
    assert {n: length.of(n) for n in range(1, 140) if length.of(n) != n} == {1: 2, 66: 67}


def test_a_padded_length_that_kernels_load_at_once() -> None:
    length = PaddedLength(multiple_of=8, max_seq_len=20)
    assert [length.of(n) for n in (1, 8, 9, 16, 17, 20, 21)] == [8, 8, 16, 16, 20, 20, 21]
    assert PaddedLength(max_seq_len=20).of(7) == 7


@pytest.mark.parametrize("side", ["left", "right"])
def test_more_columns_of_padding(side) -> None:
    rows = EncodedRows.of([Encoded(token_ids=[5, 6, 7], type_ids=[0, 1, 1]), Encoded(token_ids=[8])])
    batch = rows.batch(np.array([0, 1]), 9, side)
    assert widened(batch, 0, 9, side) is batch
    wider = widened(batch, 2, 9, side)
    place = slice(2, None) if side == "left" else slice(0, -2)
    for name, filled in (("input_ids", 9), ("attention_mask", 0), ("type_ids", 0)):
        array = getattr(wider, name)
        assert array.shape == (2, 5)
        np.testing.assert_array_equal(array[:, place], getattr(batch, name))
        assert set(array[:, : 2 if side == "left" else None][:, 0 if side == "left" else -2 :].ravel()) == {
            filled
        }
