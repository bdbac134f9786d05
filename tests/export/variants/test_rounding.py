"""Matrices in 8 bits: rounded for the rows that they multiply."""

from __future__ import annotations

import numpy as np
import pytest

from embedge_export.variants import rounding
from embedge_export.variants.rounding import Rounded, round_columns, round_for


def rows_of_few_directions(num_rows: int = 400, channels: int = 100) -> np.ndarray:
    """Activations as encoders have them: most of what they say lies in few directions."""
    random = np.random.default_rng(2)
    told = random.normal(size=(num_rows, 12)) @ random.normal(size=(12, channels))
    return (told + 0.05 * random.normal(size=(num_rows, channels))).astype(np.float32)


def widened(rounded: Rounded) -> np.ndarray:
    return rounded.values * rounded.scales


def test_products_are_closer_than_by_the_nearest_step() -> None:
    rows = rows_of_few_directions()
    matrix = np.random.default_rng(3).normal(size=(100, 40)).astype(np.float32)
    seen, unseen = rows[:200], rows[200:]
    (made,) = round_for(seen, [matrix])
    off, nearest = (
        np.linalg.norm(unseen @ (widened(each) - matrix)) for each in (made, round_columns(matrix))
    )
    assert off < 0.4 * nearest
    assert np.abs(widened(made) - matrix).max() < 12 * made.scales.max()


def test_unrelated_channels_are_rounded_to_the_nearest_step() -> None:
    matrix = np.random.default_rng(3).normal(size=(100, 40)).astype(np.float32)
    (made,) = round_for(np.eye(100, dtype=np.float32), [matrix])
    assert (made.values == round_columns(matrix).values).all()


def test_matrices_of_the_same_rows_are_rounded_as_each_alone() -> None:
    rows = rows_of_few_directions()
    random = np.random.default_rng(4)
    matrices = [random.normal(size=(100, size)).astype(np.float32) for size in (7, 30)]
    together = round_for(rows, matrices)
    for matrix, made in zip(matrices, together, strict=True):
        (alone,) = round_for(rows, [matrix])
        assert (made.values == alone.values).mean() > 0.999
        assert (made.scales == alone.scales).all()


@pytest.mark.parametrize("rows", [np.zeros((5, 100)), np.ones((1, 100))])
def test_rows_that_say_nothing_do_no_harm(rows) -> None:
    matrix = np.random.default_rng(3).normal(size=(100, 40)).astype(np.float32)
    (made,) = round_for(rows.astype(np.float32), [matrix])
    assert np.abs(widened(made) - matrix).max() < 12 * made.scales.max()
    assert made.values.dtype == np.int8


def test_a_wide_activation_is_rounded_plainly(monkeypatch) -> None:
    monkeypatch.setattr(rounding, "_MOST_CHANNELS", 99)
    matrix = np.random.default_rng(3).normal(size=(100, 40)).astype(np.float32)
    (made,) = round_for(rows_of_few_directions(), [matrix])
    assert (made.values == round_columns(matrix).values).all()
