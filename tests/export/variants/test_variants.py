"""Variants: what each precision stores, how far it may be off, and what fails an export."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper
from tests.corpus import texts

from embedge import EdgeModel, ExportError, VerificationError
from embedge.manifest import load_manifest, load_probes
from embedge.verify import verify
from embedge_export.pipeline import export
from embedge_export.precisions import STORED_AS
from embedge_export.spec import ExportSpec
from embedge_export.variants import compress, editor, int8
from embedge_export.variants.calibration import Activations
from embedge_export.variants.editor import GraphEditor

TEXTS = [t for t in texts(120, seed=5) if t.strip()]


def vectors(bundle: Path, variant: str, prompts=TEXTS) -> np.ndarray:
    with EdgeModel(bundle, device="cpu", variant=variant, truncate_prompt_tokens=-1) as model:
        return model.embed(prompts).numpy()


@pytest.mark.slow
def test_real_weights_in_every_precision(minilm_bundle: Path) -> None:
    manifest = load_manifest(minilm_bundle)
    sizes = {
        name: sum(manifest.files[f].size_bytes for f in (v.file, *v.data_files))
        for name, v in manifest.variants.items()
    }
    assert sizes["fp16"] < 0.51 * sizes["fp32"]
    assert sizes["int8"] < 0.27 * sizes["fp32"]
    assert manifest.variants["int8"].forms == {"fixed": 29, "floored": 6, "token": 1}
    expected = vectors(minilm_bundle, "fp32")
    for variant, lowest, mean in (("fp16", 0.99999, 0.99999), ("int8", 0.99, 0.998)):
        cosines = (vectors(minilm_bundle, variant) * expected).sum(1)
        assert cosines.min() >= lowest
        assert cosines.mean() >= mean
        figures = manifest.variants[variant].fidelity.end_to_end
        assert figures.batch_invariance == "exact"
        assert figures.cosine_min >= lowest
        assert figures.ndcg_10 >= 0.985 * figures.reference_ndcg_10
    assert {report.variant for report in verify(minilm_bundle) if report.passed} == {"fp32", "fp16", "int8"}
    assert load_probes(minilm_bundle).tolerances["int8"] > load_probes(minilm_bundle).tolerances["fp32"]


@pytest.mark.slow
def test_int8_does_not_depend_on_the_batch(minilm_bundle: Path) -> None:
    random = np.random.default_rng(0)
    # attention computes 65 rows at a time: lengths around one row more, too
    lengths = [*range(64, 69), *range(129, 134), *range(194, 199), 1, 2, 200]
    prompts = [random.integers(1000, 20000, n).tolist() for n in lengths for _ in range(4)] + TEXTS[:12]
    assert load_manifest(minilm_bundle).variants["int8"].attention_block == 65
    with EdgeModel(minilm_bundle, device="cpu", variant="int8", truncate_prompt_tokens=-1) as model:
        alone = np.concatenate([model.embed([prompt]).numpy() for prompt in prompts])
        assert_allclose(model.embed(prompts).numpy(), alone, atol=1e-6)


@pytest.mark.slow
def test_auto_prefers_the_most_faithful(minilm_bundle: Path) -> None:
    with EdgeModel(minilm_bundle, device="cpu") as model:
        assert model.info.variant == "fp32"


def test_int8_alone_is_judged_by_fp32_but_does_not_keep_it(
    tiny_bert: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(editor, "SMALLEST_WEIGHT", 32)
    target = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "bundle", variants=("int8",)))
    manifest = load_manifest(target)
    assert list(manifest.variants) == ["int8"]
    assert not (target / "onnx" / "model.onnx").exists()
    assert manifest.variants["int8"].fidelity.end_to_end.reference == "fp32"
    assert all(report.passed for report in verify(target))
    again = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "again", variants=("int8",)))
    assert load_manifest(again).fingerprint == manifest.fingerprint


def test_a_missed_gate_fails_the_export_and_leaves_nothing(
    tiny_bert: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(editor, "SMALLEST_WEIGHT", 32)
    gates = STORED_AS["int8"].gates
    monkeypatch.setitem(gates, "embed", msgspec.structs.replace(gates["embed"], cosine_min=1.1))
    with pytest.raises(
        VerificationError, match=r"variant int8 \(int8\) misses its gate .* smallest cosine [01]\."
    ):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "bundle", variants=("fp32", "int8")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variants", [(), ("int9",), ("fp32", "fp32")])
def test_wrong_variants(variants) -> None:
    with pytest.raises(
        ExportError, match="expected some of fp32, fp16, fp16_cuda, bf16_cuda, int8, uint8, int4, each once"
    ):
        ExportSpec(model="x", variants=variants)


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


def seen(rows: np.ndarray) -> Activations:
    return Activations(peak=np.abs(rows).max(axis=0), sample=rows[:40])


def run(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["result"], {"rows": rows})[0]


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


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
    assert [producers[node.input[0]].op_type for node in quantised] == ["Mul", "MultiHeadAttention"]
    with pytest.MonkeyPatch.context() as patch:
        # the channel that stands out takes nearly all steps where nothing smooths it
        patch.setattr(int8, "_smoothing", lambda *_: np.ones(96, np.float32))
        patch.setattr(int8, "_LARGEST_ERROR", 1.0)
        plain = int8.int8(opened(model), found, unsigned=unsigned)
    assert error(run(made.graph, rows), run(model, rows)) < 0.7 * error(
        run(plain.graph, rows), run(model, rows)
    )


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
            int8, "_error", lambda seen, *given: 1.0 if seen is found["normed"] else measured(seen, *given)
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
