"""Variants: what each precision stores, how far it may be off, and what fails an export."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.corpus import texts
from tests.export.texts.held_out import HELD_OUT

from embedge import EdgeModel, ExportError, VerificationError
from embedge.manifest import load_manifest, load_probes
from embedge.verify import verify
from embedge_export.pipeline import export
from embedge_export.precisions import STORED_AS
from embedge_export.spec import ExportSpec
from embedge_export.texts.built_in import TEXTS as BUILT_IN
from embedge_export.texts.many_kinds import CALIBRATION_TEXTS, JUDGED_TEXTS
from embedge_export.variants import editor

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
    assert manifest.variants["int8"].forms == {"fixed": 30, "floored": 6}
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
def test_int8_holds_for_texts_that_neither_calibration_nor_gate_has_seen(minilm_bundle: Path) -> None:
    assert set(HELD_OUT) & {*CALIBRATION_TEXTS, *JUDGED_TEXTS, *BUILT_IN} == {""}
    cosines = (vectors(minilm_bundle, "int8", HELD_OUT) * vectors(minilm_bundle, "fp32", HELD_OUT)).sum(1)
    assert cosines.mean() >= 0.9985
    assert cosines.min() >= 0.993
    # and the manifest does not promise more than other texts get
    stated = load_manifest(minilm_bundle).variants["int8"].fidelity.end_to_end
    assert stated.cosine_min < cosines.min() + 0.003
    assert load_probes(minilm_bundle).tolerances["int8"] < 1.0


def test_calibration_and_gate_have_no_sentence_in_common() -> None:
    assert set(CALIBRATION_TEXTS) & set(JUDGED_TEXTS) == {"", " ", "a"}


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
        VerificationError, match=r"variant int8 \(int8\) misses its gate .* smallest end-to-end cosine [01]\."
    ):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "bundle", variants=("fp32", "int8")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variant", ["int8", "uint8", "int4"])
def test_a_checkpoint_without_a_large_matrix_is_refused_by_reason(variant, tiny_bert, tmp_path) -> None:
    with pytest.raises(ExportError, match=rf"matrix of 4,096 values or more, .*Omit {variant}\."):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "bundle", variants=("fp32", variant)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variants", [(), ("int9",), ("fp32", "fp32")])
def test_wrong_variants(variants) -> None:
    names = "fp32, fp16, fp16_cuda, bf16_cuda, fp32_openvino, bf16_openvino, int8, uint8, int4"
    with pytest.raises(ExportError, match=f"expected some of {names}, each once"):
        ExportSpec(model="x", variants=variants)
