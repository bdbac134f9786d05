"""The graph's pooling and activations equal the numpy formulas."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_allclose

from embedge._rows import heads as _heads
from embedge._rows import pooling as _pooling
from embedge_export.activations import MODULE_ACTIVATIONS
from embedge_export.graph.pooling_nodes import PoolingNodes

MODES = ["CLS", "LAST", "MEAN", "MAX", "MEAN_SQRT_LEN", "WEIGHTEDMEAN"]


def run(build, feeds, opset=18):
    graph = onnx.helper.make_graph([], "test", [], [])
    for name, value in feeds.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        shape = [f"{name}_{axis}" for axis in range(value.ndim)]
        graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, shape))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    head = PoolingNodes(model)
    name = build(head)
    head.output(name, [None] * 2)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        [name], feeds
    )[0]


def batch(side):
    rng = np.random.default_rng(3)
    hidden = rng.normal(size=(5, 9, 6)).astype(np.float32)
    mask = np.zeros((5, 9), dtype=np.int64)
    for row, count in enumerate((9, 1, 4, 7, 2)):
        mask[row, :count] = 1
    return {"hidden": hidden, "attention_mask": mask if side == "right" else mask[:, ::-1].copy()}


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("modes", [*([mode] for mode in MODES), ["CLS", "MEAN", "MAX"]], ids="+".join)
def test_pooling_equals_numpy(modes, side, opset):
    feeds = batch(side)
    actual = run(lambda head: head.pool("hidden", modes, output="pooled"), feeds, opset)
    assert_allclose(actual, _pooling.pool(feeds["hidden"], feeds["attention_mask"], modes), atol=1e-6)


@pytest.mark.parametrize("activation", sorted(MODULE_ACTIVATIONS))
def test_dense_equals_numpy(activation):
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(7, 6)).astype(np.float32) * 3
    weight, bias = rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    actual = run(lambda head: head.dense("rows", weight, bias, activation, output="dense"), {"rows": rows})
    assert_allclose(actual, _heads.dense(rows, weight, bias, activation), atol=2e-6)


@pytest.mark.parametrize("opset", [17, 18])
def test_other_modules_equal_numpy(opset):
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(7, 6)).astype(np.float32) * 3
    rows[2] = 0
    weight, bias = rng.normal(size=(2, 6)).astype(np.float32)
    wide = rng.normal(size=(4, 6)).astype(np.float32)

    def layer_norm(head):
        return head.layer_norm("rows", weight, bias)

    def residual(head):
        return head.residual(head.dense("rows", wide, None, "Tanh"), "rows", wide)

    unit = run(lambda head: head.normalize("rows"), {"rows": rows}, opset)
    assert_allclose(unit, _heads.cut_and_normalize(rows, None, normalize=True), atol=1e-6)
    assert_allclose(run(layer_norm, {"rows": rows}, opset), _heads.layer_norm(rows, weight, bias), atol=1e-5)
    expected = _heads.dense(rows, wide, None, "Tanh", use_residual=True, residual=wide)
    assert_allclose(run(residual, {"rows": rows}, opset), expected, atol=2e-6)


def test_both_halves_know_the_same_activations():
    assert set(MODULE_ACTIVATIONS) == set(_heads.ACTIVATIONS)
