"""Forms of attention that are timed against each other compute the same."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from benchmarks.operators.attending import seen


@pytest.mark.parametrize(
    ("heads", "before", "after", "num_forms"),
    [((4, 4), None, None, 2), ((4, 4), 8, 8, 4), ((4, 2), None, 0, 2), ((4, 2), 20, 0, 5)],
)
def test_every_form_gives_the_same_rows(heads, before, after, num_forms):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    rows = {}
    for operator in seen(2, 150, *heads, 16, before=before, after=after):
        model, feeds = operator.build()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        rows[operator.name] = session.run(["y"], feeds)[0]
    assert len(rows) == num_forms
    for each in rows.values():
        np.testing.assert_allclose(each, rows["single operators"], atol=2e-5)
