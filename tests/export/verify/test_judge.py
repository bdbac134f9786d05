"""What a variant may differ by elsewhere, and what is said of its figures."""

import msgspec
import pytest

from embedge import EdgeModel
from embedge.manifest import EndToEnd, Fidelity, load_manifest
from embedge.testing import tiny_bundle
from embedge.verify import raw_params
from embedge_export.verify.judge import probe_tolerances, summary
from embedge_export.verify.numbers import Case


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    return load_manifest(tiny_bundle(tmp_path_factory.mktemp("bundles"))).variants["fp32"]


def measured(variant, diff, **changes):
    fidelity = Fidelity(num_texts=9, max_abs_diff=diff, max_batch_diff=0.0)
    return msgspec.structs.replace(variant, fidelity=fidelity, **changes)


def unmeasured(variant, dtype):
    fidelity = Fidelity(num_texts=0, max_abs_diff=0.0, max_batch_diff=0.0)
    return msgspec.structs.replace(variant, fidelity=fidelity, dtype=dtype, target="cuda")


def test_a_measured_variant_may_differ_by_half_as_much_again_as_its_probes_do(fp32, tmp_path):
    folder = tiny_bundle(tmp_path)
    off = 0.125
    with EdgeModel(folder, device="cpu") as model:
        row = model.encode(
            "the", raw_params("embed", model.manifest), pooling_task="embed", prompt=""
        ).numpy()[0]
    cases = [Case(prompt="the", expected={"embed": row + off})]
    # another text of the export was worse, and says nothing about the probes
    variants = {"fp32": measured(fp32, 9.0, dtype="int8")}
    assert probe_tolerances(folder, variants, cases, 1e-3, 5.0) == {
        "fp32": pytest.approx(1.5 * off, rel=0.01)
    }
    # never by less than float32, which has its own
    assert probe_tolerances(folder, variants, cases, 1.0, 5.0) == {"fp32": 1.0}
    assert probe_tolerances(folder, {"fp32": measured(fp32, 9.0)}, cases, 1e-3, 5.0) == {"fp32": 1e-3}


def test_an_unmeasured_variant_may_differ_by_a_share_of_the_largest_answer(fp32, tmp_path):
    variants = {"fp16_cuda": unmeasured(fp32, "float16"), "bf16_cuda": unmeasured(fp32, "bfloat16")}
    assert probe_tolerances(tmp_path, variants, [], 1e-3, 5.0) == {"fp16_cuda": 0.05, "bf16_cuda": 0.35}
    assert probe_tolerances(tmp_path, variants, [], 1.0, 5.0) == {"fp16_cuda": 1.0, "bf16_cuda": 1.0}


def test_the_summary_says_what_is_known(fp32):
    assert summary("x", unmeasured(fp32, "float16")) == "x: not measured, as there is no GPU here"
    assert summary("x", measured(fp32, 0.0)) == "x: not compared"
    figures = EndToEnd(
        reference="fp32",
        num_compared=9,
        texts_sha256="0" * 64,
        batch_invariance="exact",
        max_batch_diff=0.0,
        cosine_min=0.98765,
        label_agreement=1.0,
    )
    told = measured(fp32, 0.0)
    told = msgspec.structs.replace(told, fidelity=msgspec.structs.replace(told.fidelity, end_to_end=figures))
    assert summary("x", told) == "x: end-to-end cosine min 0.9877, label agreement 1.0000"
