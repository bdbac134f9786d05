"""Exports for OpenVINO where it is not: what is written, held against float32, and said to be unmeasured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.export.architectures import make
from tests.export.tiny import make_bert

from embedge import ExportError, VerificationError
from embedge.bundle import check_files, open_bundle
from embedge.manifest import load_manifest, load_probes
from embedge.runtime import open_on_cpu
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
from embedge_export.variants import openvino as openvino_variant
from embedge_export.write import graph_files

KNOWN = {("com.microsoft", "FusedMatMul"), ("com.microsoft", "QuickGelu")}
"""What OpenVINO knows besides ONNX's operators."""


@pytest.fixture(autouse=True)
def no_openvino(monkeypatch) -> None:
    monkeypatch.setattr("embedge_export.variants.openvino.openvino_problem", lambda: "is not here")


def exported(folder: Path, family: str | None = None, **changes) -> Path:
    if family is None:
        make_bert(folder / "checkpoint")
    else:
        make(folder / "checkpoint", family, "embed")
    spec = ExportSpec(
        model=str(folder / "checkpoint"),
        output=folder / "bundle",
        optimize_for="openvino",
        witness=False,
        **changes,
    )
    return export(spec)


def test_one_graph_is_written_for_both_and_says_that_it_is_unmeasured(tmp_path) -> None:
    bundle = exported(tmp_path)
    manifest, probes = load_manifest(bundle), load_probes(bundle)
    assert set(manifest.variants) == {"fp32", "fp32_openvino", "bf16_openvino"}
    full, bf16 = manifest.variants["fp32_openvino"], manifest.variants["bf16_openvino"]
    assert (full.target, full.dtype, bf16.dtype) == ("openvino", "float32", "bfloat16")
    assert full.files == bf16.files
    assert (full.fidelity.num_texts, bf16.fidelity.num_texts) == (0, 0)
    assert probes.tolerances["bf16_openvino"] > probes.tolerances["fp32_openvino"]
    assert probes.tolerances["fp32_openvino"] == probes.tolerances["fp32"]
    assert "run embedge verify BUNDLE --device openvino" in (bundle / "report.html").read_text("utf-8")


@pytest.mark.parametrize("family", ["modernbert", "qwen3", "deberta-v2"])
def test_windows_rotations_and_relative_positions_are_single_operators(family, tmp_path) -> None:
    bundle = exported(tmp_path, family, variants=("fp32", "fp32_openvino"))
    manifest = load_manifest(bundle)
    assert set(manifest.variants) == {"fp32", "fp32_openvino"}
    plain, full = (bundle / manifest.variants[name].file for name in ("fp32_openvino", "fp32"))
    nodes = onnx.load(str(plain), load_external_data=False).graph.node
    assert {(node.domain, node.op_type) for node in nodes if node.domain} <= KNOWN
    ids = np.random.default_rng(0).integers(5, 30, (3, 40))
    mask = (np.arange(40) < np.array([[40], [7], [23]])).astype(np.int64)
    answers = []
    for graph in (plain, full):
        session = open_on_cpu(graph)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": 0 * ids}
        given = {value.name: feeds[value.name] for value in session.get_inputs()}
        answers.append(session.run(["last_hidden_state"], given)[0][mask > 0])
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_the_weights_of_float32_stay_where_its_graph_goes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(graph_files, "EXTERNAL_DATA_BYTES", 0)
    monkeypatch.setattr(graph_files, "_SMALL_TENSOR_BYTES", 1000)
    bundle = exported(tmp_path, variants=("fp32_openvino",))
    assert sorted(path.name for path in (bundle / "onnx").iterdir()) == [
        "model.onnx_data",
        "model_openvino.onnx",
    ]
    check_files(open_bundle(bundle))
    assert open_on_cpu(bundle / "onnx" / "model_openvino.onnx").get_outputs()


def test_a_graph_of_another_sum_is_not_written(tmp_path, monkeypatch) -> None:
    def wrong(described):
        graph, loads = openvino_variant.build_from_weights(described)
        for node in graph.graph.node:
            if node.op_type == "Softmax":
                node.op_type = "Identity"
                del node.attribute[:]
        next(node for node in graph.graph.node if node.op_type == "LayerNormalization").attribute[1].f = 0.5
        return graph, loads

    monkeypatch.setattr(openvino_variant, "build_plain", wrong)
    with pytest.raises(VerificationError, match="the graph for OpenVINO is not the checkpoint"):
        exported(tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_what_keeps_its_own_operators_is_refused(tmp_path) -> None:
    with pytest.raises(ExportError, match="optimize_for='openvino' is given with from_onnx"):
        ExportSpec(model="x", optimize_for="openvino", from_onnx=tmp_path / "model.onnx")
