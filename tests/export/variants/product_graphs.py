"""Graphs of one product, and what they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from embedge_export.variants.editor import GraphEditor

HERE = Path()


def product_graph(kind: str = "MatMul", before: str = "") -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """Rows, perhaps through an operator, times a matrix plus a bias."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(96, 80)).astype(np.float32)
    bias = rng.normal(size=80).astype(np.float32)
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 96])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["n", 80])
    weights = [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(bias, "bias")]
    factor, nodes = "rows", []
    if before:
        inputs = ["rows"]
        if before == "LayerNormalization":
            weights.append(numpy_helper.from_array(np.ones(96, np.float32), "scale"))
            inputs.append("scale")
        factor = "factor"
        nodes.append(helper.make_node(before, inputs, [factor]))
    if kind == "Gemm":
        nodes.append(helper.make_node("Gemm", [factor, "matrix", "bias"], ["result"]))
    else:
        nodes.append(helper.make_node("MatMul", [factor, "matrix"], ["product"]))
        nodes.append(helper.make_node("Add", ["bias", "product"], ["result"]))
    graph = helper.make_graph(nodes, "g", [rows], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model, matrix, bias


def opened(model: onnx.ModelProto) -> GraphEditor:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return GraphEditor(copied, HERE)


def run(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["result"], {"rows": rows})[0]


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
