"""Operators are counted before and after onnxruntime's optimisation."""

from embedge.testing import tiny_bundle
from embedge_export.report.operators import count_operators


def test_operators_are_counted_before_and_after(tmp_path):
    folder = tiny_bundle(tmp_path)
    counts = count_operators(folder / "onnx" / "model.onnx", (), 1000)
    assert sum(counts.before.values()) >= sum(counts.after.values()) > 0
    assert count_operators(folder / "onnx" / "model.onnx", (), 2 * 10**9).after is None
    assert sorted(path.name for path in (folder / "onnx").iterdir()) == ["model.onnx"]
