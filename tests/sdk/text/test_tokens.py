"""Prompts in arrays, and padded batches of them."""

from __future__ import annotations

import numpy as np
import pytest

from embedge._text.padding import widened
from embedge._text.tokens import Encoded, EncodedRows, batch_of_one


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


@pytest.mark.parametrize("side", ["left", "right"])
def test_more_columns_of_padding(side) -> None:
    rows = EncodedRows.of([Encoded(token_ids=[5, 6, 7], type_ids=[0, 1, 1]), Encoded(token_ids=[8])])
    batch = rows.batch(np.array([0, 1]), 9, side)
    assert widened(batch, 0, 9, side) is batch
    wider = widened(batch, 2, 9, side)
    real = slice(2, None) if side == "left" else slice(0, -2)
    for name, filled in (("input_ids", 9), ("attention_mask", 0), ("type_ids", 0)):
        array = getattr(wider, name)
        assert array.shape == (2, 5)
        np.testing.assert_array_equal(array[:, real], getattr(batch, name))
        assert set(array[:, : 2 if side == "left" else None][:, 0 if side == "left" else -2 :].ravel()) == {
            filled
        }


def test_whole_texts_and_what_is_cut_out_of_them() -> None:
    ids, counts = np.arange(10, dtype=np.int32), np.array([4, 1, 5], dtype=np.int32)
    rows = EncodedRows.whole(ids, counts, 2)
    assert [e.token_ids for e in rows] == [[0, 1, 2, 3], [4], [5, 6, 7, 8, 9]]
    assert {(e.num_prompt_tokens, e.num_truncated) for e in rows} == {(2, 0)}
    cut = rows.without(np.array([0, 2]), np.array([3, 1]), np.array([4, 3]))
    assert [e.token_ids for e in cut] == [[0, 1, 2], [4], [5, 8, 9]]
    assert [(e.num_prompt_tokens, e.num_truncated) for e in cut] == [(2, 1), (2, 0), (1, 2)]
    assert [e.token_ids for e in rows] == [[0, 1, 2, 3], [4], [5, 6, 7, 8, 9]]
    both = EncodedRows.concatenate([rows, cut])
    assert [e.token_ids for e in both[2:4]] == [[5, 6, 7, 8, 9], [0, 1, 2]]
    assert both.starts.tolist() == [0, 4, 5, 10, 13, 14]


def test_a_prompt_that_is_not_there() -> None:
    with pytest.raises(IndexError, match="there are 1 prompts; 1 is not one of them"):
        EncodedRows.of([Encoded(token_ids=[1])])[1]
