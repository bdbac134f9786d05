"""Built graphs brought to half precision, run where onnxruntime's CPU provider widens what it cannot compute."""

from __future__ import annotations

import json
from pathlib import Path

import benchmarks.gpu
import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.gpu import models

FUSED = {"roberta", "electra", "albert"}
FAMILIES = json.loads((Path(benchmarks.gpu.__file__).parent / "families.json").read_text())


def run(graph: bytes, inputs) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]).run(None, inputs)[
        0
    ]


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - FUSED))
def test_rows_keep_their_direction(name) -> None:
    full, made, form, inputs = models.family_graphs(name)
    graph = onnx.load_from_string(made)
    assert form == "plain"
    real = inputs["attention_mask"] > 0
    rows, expected = (run(each, inputs)[real].astype(np.float64) for each in (made, full))
    assert graph.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    cosines = (rows * expected).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.99995
    sizes = {tensor.data_type: 0 for tensor in graph.graph.initializer}
    for tensor in graph.graph.initializer:
        sizes[tensor.data_type] += int(np.prod(tensor.dims))
    assert sizes[onnx.TensorProto.FLOAT] < 0.01 * sizes[onnx.TensorProto.FLOAT16]


def test_angles_and_masks_stay_in_float32() -> None:
    graph = onnx.load_from_string(models.family_graphs("qwen3")[1]).graph
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    places = [node for node in graph.node if node.name.startswith("places/")]
    assert {"Cos", "Sin"} <= {node.op_type for node in places}
    assert not any(name in halves for node in places for name in node.input)
