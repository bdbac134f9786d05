"""On OpenVINO: the checkpoint's own numbers in float32, bfloat16 within its gate, and nothing that runs elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.export.architectures import make
from tests.export.tiny import make_bert

from embedge import EdgeModel, ParamsError, ProviderUnavailableError
from embedge._sessions.onnxruntime import plugin_devices
from embedge._sessions.openvino import OPENVINO
from embedge.cli.main import main
from embedge.manifest import load_manifest
from embedge.runtime import has_bfloat16, openvino_problem
from embedge.verify import verify
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

IS_PLUGIN = bool(plugin_devices(OPENVINO))
pytestmark = pytest.mark.skipif(openvino_problem() is not None, reason=str(openvino_problem()))
TEXTS = ["the river is cold", "good city", "the", "is the city good or is the river cold " * 2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("openvino")
    make_bert(folder / "checkpoint")
    return export(
        ExportSpec(
            model=str(folder / "checkpoint"),
            output=folder / "bundle",
            optimize_for="openvino",
            variants=("fp32",),
        )
    )


def test_its_vectors_are_the_checkpoints_own(bundle) -> None:
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(bundle.parent / "checkpoint"), device="cpu").encode(TEXTS)
    with EdgeModel(bundle, device="openvino") as model:
        assert model.info.variant == "fp32_openvino"
        assert set(model.info.placement) == {"OpenVINOExecutionProvider"}
        np.testing.assert_allclose(model.embed(TEXTS).numpy(), expected, atol=1e-5)
        alone = np.concatenate([model.embed([text]).numpy() for text in TEXTS])
        np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_every_variant_was_judged_here_and_its_probes_pass(bundle, capsys) -> None:
    variants = load_manifest(bundle).variants
    names = ["fp32_openvino", *(["bf16_openvino"] if has_bfloat16() else [])]
    assert all(variants[name].fidelity.num_texts for name in names)
    reports = verify(bundle, device="openvino")
    assert sorted(report.variant for report in reports) == sorted(names)
    assert all(report.passed for report in reports)
    assert main(["verify", str(bundle), "--device", "openvino"]) == 0
    assert "fp32: not replayed, as it is made for the CPU; use --device cpu" in capsys.readouterr().out


@pytest.mark.skipif(IS_PLUGIN, reason="the plugin's OpenVINO takes MultiHeadAttention, too")
def test_a_graph_that_it_takes_in_part_is_refused(bundle) -> None:
    with pytest.raises(ProviderUnavailableError, match="not .*MultiHeadAttention.*--optimize-for openvino"):
        EdgeModel(bundle, device="openvino", variant="fp32")


def test_settings_are_taken_and_a_precision_is_not(bundle) -> None:
    latency = {"load_config": '{"CPU": {"PERFORMANCE_HINT": "LATENCY"}}'}
    with EdgeModel(bundle, device="openvino", provider_options=latency, threads=1) as model:
        assert model.embed(["good"]).numpy().shape[0] == 1
    with pytest.raises(ParamsError, match="state a precision"):
        EdgeModel(bundle, device="openvino", provider_options={"precision": "FP32"})


@pytest.mark.skipif(IS_PLUGIN, reason="the plugin passes over what it does not know")
def test_settings_that_are_none_are_refused(bundle) -> None:
    with pytest.raises(ProviderUnavailableError, match="option: nonsense|fell back to CPU") as caught:
        EdgeModel(bundle, device="openvino", provider_options={"nonsense": "1"})
    assert "asked with provider_options={'nonsense': '1'}" in str(caught.value)


@pytest.mark.parametrize("family", ["modernbert", "qwen3"])
def test_rotations_windows_and_groups_are_taken_whole(family, tmp_path) -> None:
    make(tmp_path / "checkpoint", family, "embed")
    made = export(
        ExportSpec(
            model=str(tmp_path / "checkpoint"),
            output=tmp_path / "bundle",
            optimize_for="openvino",
            variants=("fp32_openvino",),
            witness=False,
        )
    )
    assert load_manifest(made).variants["fp32_openvino"].fidelity.num_texts
    assert all(report.passed for report in verify(made, device="openvino"))
