"""Each precision keeps what a product computes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper
from tests.export.variants.product_graphs import error, opened, product_graph, run

from embedge import ExportError
from embedge_export.variants import compress, int8


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize(
    ("quantise", "allowed"),
    [
        (lambda e: int8.int8(e, {}).graph, 0.02),
        (lambda e: int8.int8(e, {}, unsigned=True).graph, 0.02),
        (compress.int4, 0.15),
        (compress.float16, 0.001),
    ],
)
def test_products_keep_their_value(kind, quantise, allowed) -> None:
    model, matrix, bias = product_graph(kind)
    smaller = quantise(opened(model))
    assert smaller.ByteSize() < 0.65 * model.ByteSize()
    rows = np.random.default_rng(1).normal(size=(7, 96)).astype(np.float32) * 10
    actual = run(smaller, rows)
    assert error(actual, rows @ matrix + bias) < allowed
    assert_allclose(run(smaller, rows[3:4])[0], actual[3], atol=1e-4)


def test_a_graph_without_products() -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    for quantise in (lambda e: int8.int8(e, {}), compress.int4):
        with pytest.raises(ExportError, match="no product with a stored matrix"):
            quantise(opened(helper.make_model(graph)))
