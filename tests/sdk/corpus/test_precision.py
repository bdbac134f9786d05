"""Rows are packed as sentence-transformers packs them, and unpacked to what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from embedge import CorpusError
from embedge._corpus.precision import (
    PRECISIONS,
    dequantize,
    find_ranges,
    quantize,
    stored_size,
    stored_type,
)

ROWS = np.random.default_rng(5).normal(size=(200, 20)).astype(np.float32)


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "float16"])
def test_as_sentence_transformers_packs_them(precision) -> None:
    quantization = pytest.importorskip("sentence_transformers.util")
    rows = ROWS.copy()
    rows[:, 3] = 0.5  # a component that is always the same
    expected = quantization.quantize_embeddings(rows, precision)
    ours = quantize(rows, precision, find_ranges(rows))
    assert ours.dtype == expected.dtype == stored_type(precision)
    assert ours.shape[1] == stored_size(precision, 20)
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    ("precision", "most"), [("float32", 0.0), ("float16", 1e-3), ("int8", 0.014), ("uint8", 0.014)]
)
def test_back_to_numbers(precision, most) -> None:
    ranges = find_ranges(ROWS)
    back = dequantize(quantize(ROWS, precision, ranges), precision, 20, ranges)
    steps = (ranges[1] - ranges[0]) / 255
    assert np.abs(back - ROWS).max() <= max(most, 0)
    if precision in ("int8", "uint8"):
        assert (np.abs(back - ROWS) <= steps * 0.51).all()


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_back_to_signs(precision) -> None:
    back = dequantize(quantize(ROWS, precision), precision, 20)
    np.testing.assert_array_equal(back, np.where(ROWS > 0, 1, -1))


def test_values_beyond_the_ranges_become_the_nearest() -> None:
    ranges = np.array([[-1.0], [1.0]], dtype=np.float32)
    assert quantize(np.array([[-9.0], [9.0]], dtype=np.float32), "uint8", ranges).tolist() == [[0], [255]]
    with pytest.raises(CorpusError, match="their ranges are missing"):
        quantize(ROWS, "int8")
