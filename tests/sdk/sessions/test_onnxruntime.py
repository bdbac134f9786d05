"""What is known of the onnxruntime that is installed."""

from __future__ import annotations

import pytest

from embedge._sessions import onnxruntime


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.20.1", False), ("1.27.0", False), ("1.28.0", True), ("2.0.0.dev1", True), ("", False)],
)
def test_versions_whose_causal_attention_works_in_blocks(version, expected, monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime.import_onnxruntime(), "__version__", version)
    assert onnxruntime.causal_in_blocks() is expected
