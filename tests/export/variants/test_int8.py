"""int8: the form of each product, and what it costs in precision."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper
from tests.export.variants.product_graphs import error, opened, product_graph, run

from embedge_export.variants import int8
from embedge_export.variants.calibration import Activations
from embedge_export.variants.editor import GraphEditor


def seen(rows: np.ndarray) -> Activations:
    return Activations(lowest=rows.min(axis=0), highest=rows.max(axis=0), sample=rows[:40])


@pytest.mark.parametrize(
    ("before", "form", "allowed"),
    [("LayerNormalization", "fixed", 0.02), ("Gelu", "floored", 0.012), ("Relu", "floored", 0.012)],
)
def test_the_form_follows_from_what_gives_the_rows(before, form, allowed) -> None:
    model, _, _ = product_graph(before=before)
    rows = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32) * 3
    exact = run(model, rows)
    exposed = opened(model)
    exposed.expose(["factor"])
    import onnxruntime

    session = onnxruntime.InferenceSession(exposed.serialize(), providers=["CPUExecutionProvider"])
    factor = session.run(["factor"], {"rows": rows})[0]
    made = int8.int8(opened(model), {"factor": seen(factor)})
    assert made.forms == {form: 1}
    assert error(run(made.graph, rows), exact) < allowed
    unsigned = int8.int8(opened(model), {"factor": seen(factor)}, unsigned=True).graph
    assert_allclose(run(unsigned, rows), run(made.graph, rows), rtol=1e-5, atol=1e-4)
    # GELU is never below -0.17: rows whose largest value is small, or negative, fit as well
    small = rows * np.float32(0.03)
    assert error(run(made.graph, small), run(model, small)) < 0.05
    assert np.isfinite(run(made.graph, -np.abs(rows))).all()


@pytest.mark.parametrize("before", ["Gelu", ""])
@pytest.mark.parametrize("rows", [1, 64])
def test_a_scale_per_token_makes_the_same_numbers_in_older_operator_sets(before, rows) -> None:
    """Rows as blocks, which operator set 21 has, and rows of a matrix that is made for it."""
    made = []
    for opset in (20, 21):
        model, _, _ = product_graph(before=before)
        model.opset_import[0].version, model.ir_version = opset, 10
        graph = int8.int8(opened(model), {}).graph
        onnx.checker.check_model(graph)
        made.append(graph)
    given = np.random.default_rng(1).normal(size=(rows, 96)).astype(np.float32) * 3
    given[:1] = 0
    assert np.array_equal(run(made[0], given), run(made[1], given))
    assert "Reshape" not in {node.op_type for node in made[1].graph.node}


def attention_graph(*, value_bias: bool, values_kept: bool = False) -> onnx.ModelProto:
    """A normalisation, attention over its rows, and a product; one channel of the values stands out."""
    random = np.random.default_rng(3)
    matrices = {name: random.normal(size=(96, 96)).astype(np.float32) / 10 for name in "qkvo"}
    matrices["v"][:, 7] *= 30
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1, "n", 96])
    outputs = [helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, "n", 96])]
    weights = [numpy_helper.from_array(values, f"{name}_matrix") for name, values in matrices.items()]
    weights += [numpy_helper.from_array(np.ones(96, np.float32), "scale")]
    weights += [numpy_helper.from_array(random.normal(size=96).astype(np.float32), f"{n}_bias") for n in "vo"]
    nodes = [helper.make_node("LayerNormalization", ["rows", "scale"], ["normed"])]
    nodes += [helper.make_node("MatMul", ["normed", f"{name}_matrix"], [f"{name}0"]) for name in "qkv"]
    values = "v0"
    if value_bias:
        nodes.append(helper.make_node("Add", ["v0", "v_bias"], ["v1"]))
        values = "v1"
    if values_kept:
        outputs.append(helper.make_tensor_value_info(values, TensorProto.FLOAT, [1, "n", 96]))
    nodes += [
        helper.make_node(
            "MultiHeadAttention", ["q0", "k0", values], ["factor"], domain="com.microsoft", num_heads=4
        ),
        helper.make_node("MatMul", ["factor", "o_matrix"], ["product"]),
        helper.make_node("Add", ["product", "o_bias"], ["result"]),
    ]
    graph = helper.make_graph(nodes, "g", [rows], outputs, weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def activations(model: onnx.ModelProto, rows: np.ndarray, names: list[str]) -> dict[str, Activations]:
    import onnxruntime

    exposed = opened(model)
    exposed.expose(names)
    session = onnxruntime.InferenceSession(exposed.serialize(), providers=["CPUExecutionProvider"])
    return {name: seen(a[0]) for name, a in zip(names, session.run(names, {"rows": rows}), strict=True)}


@pytest.mark.parametrize("value_bias", [False, True])
@pytest.mark.parametrize("unsigned", [False, True])
def test_after_attention_smoothing_costs_no_operator(value_bias, unsigned) -> None:
    model = attention_graph(value_bias=value_bias)
    rows = np.random.default_rng(1).normal(size=(1, 64, 96)).astype(np.float32)
    found = activations(model, rows, ["normed", "factor"])
    made = int8.int8(opened(model), found, unsigned=unsigned)
    assert made.forms == {"fixed": 4}
    assert error(run(made.graph, rows), run(model, rows)) < 0.02
    producers = {node.output[0]: node for node in made.graph.graph.node}
    quantised = [node for node in made.graph.graph.node if node.op_type == "QuantizeLinear"]
    assert [producers[node.input[0]].op_type for node in quantised] == [
        "LayerNormalization",
        "MultiHeadAttention",
    ]
    with pytest.MonkeyPatch.context() as patch:
        # the channel that stands out takes nearly all steps where nothing smooths it
        patch.setattr(int8, "_smoothing", lambda *_: np.ones(96, np.float32))
        patch.setattr(int8, "_LARGEST_ERROR", 1.0)
        plain = int8.int8(opened(model), found, unsigned=unsigned)
    assert error(run(made.graph, rows), run(model, rows)) < 0.7 * error(
        run(plain.graph, rows), run(model, rows)
    )


@pytest.mark.parametrize("bias", [False, True])
def test_channels_that_lie_apart_from_zero_have_all_steps(bias) -> None:
    """What a normalisation's bias adds to a channel takes none of its 256 steps."""
    model, _, _ = product_graph(before="LayerNormalization")
    middle = np.random.default_rng(5).normal(size=96).astype(np.float32) * 9
    model.graph.initializer.append(numpy_helper.from_array(middle, "norm_bias"))
    model.graph.node[0].input.append("norm_bias")
    if not bias:
        del model.graph.node[2:]
        model.graph.node[1].output[0] = "result"
    rows = np.random.default_rng(1).normal(size=(200, 96)).astype(np.float32)
    centred = rows - rows.mean(axis=1, keepdims=True)
    found = {"factor": seen(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True)) + middle)}
    exact = run(model, rows)
    made = int8.int8(opened(model), found)
    assert made.forms == {"fixed": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GraphEditor, "norm", lambda *_: None)
        patch.setattr(int8, "_LARGEST_ERROR", 1.0)
        around_zero = int8.int8(opened(model), found).graph

    def off(graph: onnx.ModelProto) -> float:
        return float(np.linalg.norm(run(graph, rows) - exact))

    assert off(made.graph) < 0.4 * off(around_zero)


def test_values_that_something_else_reads_are_left_as_they_are() -> None:
    model = attention_graph(value_bias=True, values_kept=True)
    rows = np.random.default_rng(1).normal(size=(1, 64, 96)).astype(np.float32)
    made = int8.int8(opened(model), activations(model, rows, ["normed", "factor"]))
    assert made.forms["fixed"] == 3
    assert error(run(made.graph, rows), run(model, rows)) < 0.02


def test_values_that_stay_in_float32_are_not_divided() -> None:
    model = attention_graph(value_bias=False)
    rows = np.random.default_rng(1).normal(size=(1, 64, 96)).astype(np.float32)
    found = activations(model, rows, ["normed", "factor"])
    measured = int8._error
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            int8,
            "_error",
            lambda *given: 1.0 if len(given[2]) == 3 else measured(*given),  # queries, keys, values
        )
        made = int8.int8(opened(model), found)
    assert made.forms["float32"] == 3
    assert error(run(made.graph, rows), run(model, rows)) < 0.02


def test_a_floored_row_has_nearly_all_steps_above_zero() -> None:
    model, _, _ = product_graph(before="Gelu")
    rows = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32) * 3
    exact = run(model, rows)
    floored = error(run(int8.int8(opened(model), {}).graph, rows), exact)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "_FLOORS", {})
        symmetric = error(run(int8.int8(opened(model), {}).graph, rows), exact)
    assert floored < 0.8 * symmetric


def test_a_channel_that_stands_out_is_smoothed() -> None:
    model, matrix, bias = product_graph()
    rows = np.random.default_rng(1).normal(size=(50, 96)).astype(np.float32)
    rows[:, 5] += 25
    expected = rows @ matrix + bias
    plain = int8.int8(opened(model), {})
    smooth = int8.int8(opened(model), {"rows": seen(rows)})
    assert (plain.forms, smooth.forms) == ({"token": 1}, {"smoothed token": 1})
    assert error(run(smooth.graph, rows), expected) < 0.6 * error(run(plain.graph, rows), expected)


def test_a_product_that_no_form_fits_stays_in_float32() -> None:
    model, _, _ = product_graph()
    random = np.random.default_rng(1)
    rows = random.normal(size=(50, 96)).astype(np.float32)
    rows[np.arange(50), random.integers(0, 96, 50)] = 3000  # another channel in each row: nothing to smooth
    loose = int8.int8(opened(model), {"rows": seen(rows)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "_LARGEST_ERROR", 1e-4)
        strict = int8.int8(opened(model), {"rows": seen(rows)})
    assert loose.forms != strict.forms == {"float32": 1}
    assert_allclose(run(strict.graph, rows), run(model, rows))


@pytest.mark.parametrize("before", ["", "Gelu"])
def test_zeros_stay_zeros(before) -> None:
    model, _, bias = product_graph(before=before)
    zeros = np.zeros((2, 96), dtype=np.float32)
    assert_allclose(run(int8.int8(opened(model), {}).graph, zeros), np.stack([bias, bias]), atol=1e-6)


def test_weights_outside_of_the_graph_are_read_one_by_one(tmp_path) -> None:
    model, _, _ = product_graph(before="LayerNormalization")
    rows = np.random.default_rng(1).normal(size=(7, 96)).astype(np.float32)
    expected = run(int8.int8(opened(model), {}).graph, rows)
    path = tmp_path / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="data", size_threshold=0)
    beside = GraphEditor.open(path)
    assert not any(tensor.raw_data for tensor in beside.model.graph.initializer)
    assert_allclose(run(int8.int8(beside, {}).graph, rows), expected)
