"""Variants: what each precision stores, how far it may be off, and what fails an export."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper

from corpus import texts
from embedge import EdgeModel, ExportError, VerificationError
from embedge.manifest import load_manifest, load_probes
from embedge.verify import verify
from embedge_export import answers, compress, gates
from embedge_export.pipeline import export
from embedge_export.retrieval import QUICK_DOCUMENTS
from embedge_export.spec import ExportSpec

TEXTS = [t for t in texts(120, seed=5) if t.strip()]


@pytest.fixture(scope="module")
def bundle(minilm_checkpoint: Path, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("variants") / "minilm"
    # not the few texts that tests/conftest.py leaves for tiny models
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "QUICK_DOCUMENTS", QUICK_DOCUMENTS)
        return export(
            ExportSpec(model=str(minilm_checkpoint), output=target, variants=("fp32", "fp16", "int8"))
        )


def vectors(bundle: Path, variant: str, prompts=TEXTS) -> np.ndarray:
    with EdgeModel(bundle, device="cpu", variant=variant, truncate_prompt_tokens=-1) as model:
        return model.embed(prompts).numpy()


@pytest.mark.slow
def test_real_weights_in_every_precision(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    sizes = {
        name: sum(manifest.files[f].size_bytes for f in (v.file, *v.data_files))
        for name, v in manifest.variants.items()
    }
    assert sizes["fp16"] < 0.51 * sizes["fp32"]
    assert sizes["int8"] < 0.27 * sizes["fp32"]
    expected = vectors(bundle, "fp32")
    for variant, lowest, mean in (("fp16", 0.99999, 0.99999), ("int8", 0.985, 0.997)):
        cosines = (vectors(bundle, variant) * expected).sum(1)
        assert cosines.min() >= lowest
        assert cosines.mean() >= mean
        figures = manifest.variants[variant].fidelity.end_to_end
        assert figures.batch_invariance == "exact"
        assert figures.cosine_min >= lowest
        assert figures.ndcg_10 >= 0.985 * figures.reference_ndcg_10
    assert {report.variant for report in verify(bundle) if report.passed} == {"fp32", "fp16", "int8"}
    assert load_probes(bundle).tolerances["int8"] > load_probes(bundle).tolerances["fp32"]


@pytest.mark.slow
def test_int8_does_not_depend_on_the_batch(bundle: Path) -> None:
    together = vectors(bundle, "int8")
    alone = np.concatenate([vectors(bundle, "int8", [text]) for text in TEXTS[:12]])
    assert_allclose(together[:12], alone, atol=1e-6)


@pytest.mark.slow
def test_auto_prefers_the_most_faithful(bundle: Path) -> None:
    with EdgeModel(bundle, device="cpu") as model:
        assert model.info.variant == "fp32"


def test_int8_alone_is_judged_by_fp32_but_does_not_keep_it(
    tiny_bert: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(compress, "_SMALLEST_PRODUCT", 32)
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
    monkeypatch.setattr(compress, "_SMALLEST_PRODUCT", 32)
    strict = msgspec.structs.replace(gates.GATES["embed", "int8"], cosine_min=1.1)
    monkeypatch.setitem(gates.GATES, ("embed", "int8"), strict)
    with pytest.raises(
        VerificationError, match=r"variant int8 \(int8\) misses its gate .* smallest cosine [01]\."
    ):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "bundle", variants=("fp32", "int8")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variants", [(), ("int9",), ("fp32", "fp32")])
def test_wrong_variants(variants) -> None:
    with pytest.raises(ExportError, match="expected some of fp32, fp16, int8, int4, each once"):
        ExportSpec(model="x", variants=variants)


def product_graph(*, gemm: bool) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(96, 80)).astype(np.float32)
    bias = rng.normal(size=80).astype(np.float32)
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 96])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["n", 80])
    weights = [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(bias, "bias")]
    if gemm:
        nodes = [helper.make_node("Gemm", ["rows", "matrix", "bias"], ["result"])]
    else:
        nodes = [
            helper.make_node("MatMul", ["rows", "matrix"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["result"]),
        ]
    graph = helper.make_graph(nodes, "g", [rows], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model, matrix, bias


def run(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["result"], {"rows": rows})[0]


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize(("quantise", "error"), [("int8", 0.02), ("int4", 0.15), ("float16", 0.001)])
def test_products_keep_their_value(gemm, quantise, error) -> None:
    model, matrix, bias = product_graph(gemm=gemm)
    before = model.SerializeToString()
    smaller = compress.int8(model, {}) if quantise == "int8" else getattr(compress, quantise)(model)
    assert model.SerializeToString() == before
    assert smaller.ByteSize() < 0.6 * model.ByteSize()
    rows = np.random.default_rng(1).normal(size=(7, 96)).astype(np.float32) * 10
    expected = rows @ matrix + bias
    actual = run(smaller, rows)
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < error
    assert_allclose(run(smaller, rows[3:4])[0], actual[3], atol=1e-4)


def test_smoothing_helps_where_a_channel_stands_out() -> None:
    model, matrix, bias = product_graph(gemm=False)
    rows = np.random.default_rng(1).normal(size=(50, 96)).astype(np.float32)
    rows[:, 5] *= 60
    expected = rows @ matrix + bias
    plain = np.linalg.norm(run(compress.int8(model, {}), rows) - expected)
    smooth = np.linalg.norm(run(compress.int8(model, {"rows": np.abs(rows).max(0)}), rows) - expected)
    assert smooth < 0.6 * plain


def test_zeros_stay_zeros() -> None:
    model, _, bias = product_graph(gemm=False)
    zeros = np.zeros((2, 96), dtype=np.float32)
    assert_allclose(run(compress.int8(model, {}), zeros), np.stack([bias, bias]), atol=1e-6)


def test_a_graph_without_products() -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    for quantise in (lambda m: compress.int8(m, {}), compress.int4):
        with pytest.raises(ExportError, match="no product with a stored matrix"):
            quantise(helper.make_model(graph))
