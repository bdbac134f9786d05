"""Plots take any figures."""

import re

import numpy as np
import pytest

from embedge_export.report.plots import cosine_histogram, difference_histogram, scatter


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [0.99, 0.999, 1.0], [-0.5, 1.0], [0.9999999, 1.0]])
def test_histograms_take_any_cosines(values):
    for gate in (None, 0.985, 0.999999):
        plot = cosine_histogram(np.array(values), gate, "s0")
        assert "nan" not in plot
        places = [float(x) for x in re.findall(r' x1?="([^"]+)"', plot)]
        assert min(places) >= 0
        assert max(places) <= 280
        assert ('class="gate"' in plot) == (gate is not None)


@pytest.mark.parametrize("values", [[0.0], [0.0, 1e-7], [1e-9, 3e-6], [0.5]])
def test_difference_histograms_take_any_differences(values):
    plot = difference_histogram(np.array(values), "s0")
    assert "nan" not in plot
    assert plot.count("<rect") >= 1


def test_scatters_take_constant_answers_and_thin_out_many():
    assert "nan" not in scatter(np.ones(3), np.ones(3), "s0", "score")
    many = np.linspace(0, 1, 5000)
    assert scatter(many, many, "s0", "score").count("<circle") <= 650
