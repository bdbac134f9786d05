"""Which graph of a bundle is chosen for a kind of device."""

from __future__ import annotations

import msgspec
import pytest

from embedge import BundleError, ParamsError
from embedge._engine.variant import choose_variant
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
    with pytest.raises(BundleError, match="has no variant for cpu; it has cuda16"):
        choose_variant(alone, "auto", "cpu")
    with pytest.raises(ParamsError, match="expected one of no variant of this bundle, or device='cuda'"):
        choose_variant(alone, "cuda16", "cpu")
    assert choose_variant(alone, "auto", "cuda").name == "cuda16"
