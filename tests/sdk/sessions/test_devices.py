"""Devices: words, lists, what is found and said, the variants they take. No GPU needed: the driver is faked."""

from __future__ import annotations

import msgspec
import pytest
from tests.sdk.sessions.fake_devices import CUDA_TOO, FakeDriver, with_library

from embedge import ParamsError, ProviderUnavailableError
from embedge._engine.variant import choose_variant
from embedge._sessions.devices import find_devices
from embedge.bundle import open_bundle
from embedge.cli.main import main
from embedge.manifest import load_manifest
from embedge.testing import tiny_bundle
from embedge.verify import verify


@pytest.mark.parametrize("device", [[], ["cpu", "cpu"], ["cpu", "cpu:0"], "cuda:x", "", 3, [3]])
def test_wrong_devices(device) -> None:
    with pytest.raises(ParamsError, match="device="):
        find_devices(device)


def test_auto_says_why() -> None:
    (found,) = find_devices("auto")
    assert found.reason.startswith("auto: ")


def test_a_gpu_that_is_not_there(runtime) -> None:
    with_library(runtime(offered=CUDA_TOO, driver=FakeDriver(1)))
    assert [d.name for d in find_devices("cuda")] == ["cuda:0"]
    with pytest.raises(ProviderUnavailableError) as caught:
        find_devices("cuda:77")
    assert str(caught.value) == "device='cuda:77' is not there; this machine has 1 GPU (cuda:0)"
    runtime(offered=CUDA_TOO, driver=FakeDriver(2))
    assert [d.name for d in find_devices(["cuda:1", "cuda:0"])] == ["cuda:1", "cuda:0"]
    with pytest.raises(ProviderUnavailableError, match=r"2 GPUs \(cuda:0, cuda:1\)"):
        find_devices(["cuda:0", "cuda:2"])


def test_other_providers_are_named_with_options_and_marked_untested(runtime) -> None:
    runtime(offered=("DmlExecutionProvider", "CPUExecutionProvider"), plugins=["QNNExecutionProvider"])
    (found,) = find_devices("DirectML", {"device_type": "GPU", "num_streams": 2})
    assert found.execution_provider == "DmlExecutionProvider"
    assert found.options == (("device_type", "GPU"), ("num_streams", "2"))
    assert "untested" in found.reason
    assert find_devices("qnn")[0].name == "qnn"
    with pytest.raises(ProviderUnavailableError, match="not CoreMLExecutionProvider"):
        find_devices("coreml")
    for device, options in (
        ("cpu", {"a": 1}),
        ("directml", {"a": None}),
        ("directml", [1]),
        ("auto", {"a": 1}),
    ):
        with pytest.raises(ParamsError, match="provider_options="):
            find_devices(device, options)


def test_a_variant_for_cuda_is_refused_elsewhere_by_name(tmp_path) -> None:
    bundle = open_bundle(tiny_bundle(tmp_path))
    fp32 = bundle.manifest.variants["fp32"]
    variants = {
        "fp32": fp32,
        "fp16": msgspec.structs.replace(fp32, dtype="float16"),
        "fp16_cuda": msgspec.structs.replace(fp32, dtype="float16", target="cuda"),
    }
    manifest = msgspec.structs.replace(bundle.manifest, variants=variants)
    assert choose_variant(manifest, "auto", "cuda").name == "fp16_cuda"
    assert choose_variant(manifest, "auto", "directml").name == "fp32"
    with pytest.raises(
        ParamsError,
        match=r"only cuda has, and the device is cpu; expected one of fp32, fp16, or device='cuda'",
    ):
        choose_variant(manifest, "fp16_cuda", "cpu")
    assert "the CPU computes in float32" in choose_variant(manifest, "fp16", "cpu").reason
    assert choose_variant(manifest, "fp16", "cuda").reason == "asked for"


def test_verify_replays_what_the_device_has_operators_for_and_names_the_rest(tmp_path, capsys) -> None:
    tiny_bundle(tmp_path)
    fp32 = load_manifest(tmp_path).variants["fp32"]
    unmeasured = msgspec.structs.replace(fp32.fidelity, num_texts=0)
    cuda = msgspec.structs.replace(fp32, dtype="float16", target="cuda", fidelity=unmeasured)
    tiny_bundle(tmp_path, changes={"variants": {"fp32": fp32, "fp16_cuda": cuda}})
    assert [report.variant for report in verify(tmp_path, device="cpu")] == ["fp32"]
    with pytest.raises(ParamsError, match="only cuda has"):
        verify(tmp_path, device="cpu", variants=("fp16_cuda",))
    assert main(["verify", str(tmp_path), "--device", "cpu"]) == 0
    assert (
        "fp16_cuda: not replayed, as only cuda has its operators; use --device cuda"
        in capsys.readouterr().out
    )
    assert (
        "no GPU could measure it"
        in choose_variant(load_manifest(tmp_path), "auto", "cuda", frozenset()).reason
    )
