"""What activations are on texts, several of which are in work at a time."""

from __future__ import annotations

import numpy as np
import pytest
from tests.export.variants.product_graphs import product_graph

from embedge_export.variants.calibration import calibrate

FEEDS = [
    {"rows": np.random.default_rng(seed).normal(size=(1 + seed % 5, 96)).astype(np.float32)}
    for seed in range(60)
]


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(product_graph()[0].SerializeToString())
    return path


def test_the_range_is_that_of_all_texts_and_the_sample_is_of_each(graph) -> None:
    (seen,) = calibrate(graph, FEEDS).values()
    every = np.concatenate([feed["rows"] for feed in FEEDS])
    np.testing.assert_array_equal(seen.lowest, every.min(axis=0))
    np.testing.assert_array_equal(seen.highest, every.max(axis=0))
    sampled = {row.tobytes() for row in seen.sample}
    assert all(sampled & {row.tobytes() for row in feed["rows"]} for feed in FEEDS)
    assert sampled <= {row.tobytes() for row in every}


def test_which_text_is_done_first_changes_nothing(graph) -> None:
    again = [next(iter(calibrate(graph, FEEDS).values())).sample for _ in range(4)]
    for sample in again[1:]:
        np.testing.assert_array_equal(sample, again[0])


def test_a_text_that_the_graph_cannot_take_ends_it(graph) -> None:
    broken = [*FEEDS, {"rows": np.zeros((2, 95), np.float32)}, *FEEDS]
    with pytest.raises(Exception, match="dimension"):
        calibrate(graph, broken)
