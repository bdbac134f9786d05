"""Which graph of a bundle is chosen for a kind of device."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from embedge import BundleError, ParamsError
from embedge._engine.variant import choose_variant, why_unsuited
from embedge._sessions.products import EXACT_INT8
from embedge.manifest import Fidelity, Variant, load_manifest

FIDELITY = Fidelity(num_texts=1, max_abs_diff=0.0, max_batch_diff=0.0)


def test_variants_of_other_devices_are_not_chosen(tiny) -> None:
    cuda = Variant(file="onnx/model_cuda.onnx", dtype="float16", target="cuda", fidelity=FIDELITY)
    manifest = load_manifest(tiny())
    both = msgspec.structs.replace(manifest, variants={"cuda16": cuda, **manifest.variants})
    assert choose_variant(both, "auto", "cpu").name == "fp32"
    with pytest.raises(
        ParamsError, match="operators that only cuda has, and the device is cpu; expected one of fp32"
    ):
        choose_variant(both, "cuda16", "cpu")
    alone = msgspec.structs.replace(manifest, variants={"cuda16": cuda})
    with pytest.raises(
        BundleError, match="has no variant for cpu; it has cuda16. Export the checkpoint with --variants fp32"
    ):
        choose_variant(alone, "auto", "cpu")
    with pytest.raises(
        ParamsError, match="; no variant of this bundle runs there. Pass device='cuda', or export"
    ):
        choose_variant(alone, "cuda16", "cpu")
    assert choose_variant(alone, "auto", "cuda").name == "cuda16"


def variants(*names: str):
    def variant(name: str) -> Variant:
        needs = (EXACT_INT8,) if name == "int8" else ()
        dtype = "float32" if name == "fp32" else "int8"
        return Variant(file=f"onnx/{name}.onnx", dtype=dtype, fidelity=FIDELITY, needs=needs)

    return SimpleNamespace(name="m", variants={name: variant(name) for name in names})


def test_a_processor_without_vnni_gets_uint8_or_a_sentence() -> None:
    without = frozenset()
    both = variants("fp32", "int8", "uint8")
    assert choose_variant(both, "int8", "cpu", frozenset({EXACT_INT8})).name == "int8"
    chosen = choose_variant(both, "int8", "cpu", without)
    assert (chosen.name, "needs VNNI" in chosen.reason) == ("uint8", True)
    with pytest.raises(
        ParamsError, match=r"needs a processor with VNNI: .* with --variants uint8, or pass variant='fp32'"
    ):
        choose_variant(variants("fp32", "int8"), "int8", "cpu", without)
    assert choose_variant(variants("int8", "uint8"), "auto", "cpu", without).name == "uint8"
    with pytest.raises(
        BundleError, match=r"'int8' of bundle 'm' needs a processor with VNNI: .*with --variants uint8\.$"
    ):
        choose_variant(variants("int8"), "auto", "cpu", without)


@pytest.mark.parametrize(
    ("target", "needs", "device", "words"),
    [
        ("cpu", (), "openvino", "use --device cpu"),
        ("openvino", (), "openvino", "multiplies in bfloat16"),
        ("cpu", (EXACT_INT8,), "cpu", "needs a processor with VNNI"),
    ],
)
def test_why_a_variant_does_not_suit(target, needs, device, words) -> None:
    spec = Variant(file="onnx/a.onnx", dtype="int8", target=target, needs=needs, fidelity=FIDELITY)
    assert words in why_unsuited(spec, device)
