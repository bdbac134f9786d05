"""Graphs as onnxruntime opens them by default."""

from __future__ import annotations

import numpy as np
import pytest

from embedge import EdgeModel
from embedge.runtime import open_on_cpu
from embedge.testing import tiny_bundle


def test_a_plain_session_has_the_models_numbers(tmp_path) -> None:
    folder = tiny_bundle(tmp_path)
    ids = np.array([[2, 7, 8, 3]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (rows,) = open_on_cpu(folder / "onnx" / "model.onnx").run(["last_hidden_state"], feeds)
    with EdgeModel(folder, device="cpu") as model:
        expected = model.encode([[2, 7, 8, 3]], pooling_task="token_embed")[0].outputs.data
    norms = np.linalg.norm(rows[0], axis=1, keepdims=True)
    np.testing.assert_allclose(rows[0] / norms, expected, atol=1e-6)


def test_the_graph_can_be_written_as_it_runs(tmp_path) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    written = tmp_path / "optimised.onnx"
    open_on_cpu(folder / "onnx" / "model.onnx", optimised=written)
    assert written.stat().st_size > 0


def test_what_onnxruntime_says_of_a_graph_comes_as_it_is(tmp_path, capfd) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(Exception, match=r"broken\.onnx"):
        open_on_cpu(tmp_path / "broken.onnx")
    assert capfd.readouterr().err == ""
