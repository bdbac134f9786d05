"""Devices: words, lists, what is found and said, the variants they take. No GPU needed: the driver is faked."""

from __future__ import annotations

import sys

import msgspec
import pytest
from tests.sdk.sessions.fake_devices import FakeDriver, FakeRuntime

from embedge import ParamsError, ProviderUnavailableError
from embedge._engine.variant import choose_variant
from embedge._sessions import devices as _devices
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


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """Put a fake onnxruntime and driver in place of the machine's."""

    def use(driver=None, installed=None, **fake):
        made = FakeRuntime(tmp_path, **fake)
        monkeypatch.setattr(_devices, "import_onnxruntime", lambda: made)
        monkeypatch.setattr(_devices, "_installed", lambda: installed or {})

        def open_driver():
            if driver is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return driver

        monkeypatch.setattr(_devices, "_driver", open_driver)
        monkeypatch.setattr(_devices.ctypes, "CDLL", lambda name, mode=0: None)
        _devices.cuda_problem.cache_clear()
        return tmp_path

    yield use
    _devices.cuda_problem.cache_clear()


CUDA_TOO = ("CUDAExecutionProvider", "CPUExecutionProvider")


def with_library(folder):
    (folder / "capi").mkdir()
    (folder / "capi" / "libonnxruntime_providers_cuda.so").touch()


def test_both_wheels_installed_is_told_apart_from_the_cpu_wheel(runtime) -> None:
    runtime(installed={"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.31.1"})
    with pytest.raises(
        ProviderUnavailableError, match="1.31.0 and onnxruntime-gpu 1.31.1 are both installed"
    ):
        find_devices("cuda")
    runtime(installed={"onnxruntime": "1.31.0"})
    with pytest.raises(ProviderUnavailableError, match="offers CPUExecutionProvider, not CUDAExecution"):
        find_devices("cuda:1")
    assert find_devices("auto")[0].reason.startswith("auto: onnxruntime 9.9 here offers")


def test_cuda_without_library_driver_or_gpu(runtime) -> None:
    folder = runtime(offered=CUDA_TOO)
    with pytest.raises(ProviderUnavailableError, match="library onnxruntime_providers_cuda is not in"):
        find_devices("cuda")
    with_library(folder)
    for driver, words in (
        (None, "no NVIDIA driver"),
        (FakeDriver(0, status=100), "finds no GPU"),
        (FakeDriver(0), "finds no GPU"),
        (FakeDriver(1, status=999), r"does not start \(CUDA error 999\)"),
    ):
        runtime(offered=CUDA_TOO, driver=driver)
        with pytest.raises(ProviderUnavailableError, match=words):
            find_devices("cuda")
        assert find_devices("auto")[0].kind == "cpu"


def test_missing_cudnn_is_named(runtime, monkeypatch) -> None:
    with_library(runtime(offered=CUDA_TOO, driver=FakeDriver(1)))

    def load(name, mode=0):
        raise OSError("libcudnn.so.9: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(_devices.ctypes, "CDLL", load)
    with pytest.raises(ProviderUnavailableError, match=r"cuDNN 9 is missing \(libcudnn.so.9"):
        find_devices("cuda")


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
    runtime(offered=("OpenVINOExecutionProvider", "CPUExecutionProvider"), plugins=["QNNExecutionProvider"])
    (found,) = find_devices("OpenVINO", {"device_type": "GPU", "num_streams": 2})
    assert found.execution_provider == "OpenVINOExecutionProvider"
    assert found.options == (("device_type", "GPU"), ("num_streams", "2"))
    assert "untested" in found.reason
    assert find_devices("qnn")[0].name == "qnn"
    with pytest.raises(ProviderUnavailableError, match="not CoreMLExecutionProvider"):
        find_devices("coreml")
    for device, options in (
        ("cpu", {"a": 1}),
        ("openvino", {"a": None}),
        ("openvino", [1]),
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
    assert choose_variant(manifest, "auto", "openvino").name == "fp32"
    with pytest.raises(
        ParamsError, match="only cuda has, and the device is cpu; expected one of fp32, fp16,"
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


def test_auto_takes_cuda_where_all_of_it_is_there(runtime, monkeypatch, capsys) -> None:
    folder = runtime(offered=CUDA_TOO, driver=FakeDriver(1))
    with_library(folder)
    (folder / "capi" / "libonnxruntime_providers_shared.so").touch()
    loaded = []
    monkeypatch.setattr(_devices.ctypes, "CDLL", lambda name, mode=0: loaded.append(name))
    monkeypatch.setattr(FakeRuntime, "preload_dlls", lambda self: print("noise"), raising=False)
    (found,) = find_devices("auto")
    assert (found.name, found.reason[:24]) == ("cuda:0", "auto: onnxruntime offers")
    assert [name.rpartition("_")[2] for name in loaded] == ["shared.so", "cuda.so"]
    assert capsys.readouterr().out == ""


def test_libraries_that_do_not_load_for_another_reason(runtime, monkeypatch) -> None:
    with_library(runtime(offered=CUDA_TOO, driver=FakeDriver(1)))

    def load(name, mode=0):
        raise OSError("file too short")

    monkeypatch.setattr(_devices.ctypes, "CDLL", load)
    with pytest.raises(ProviderUnavailableError, match=r"its libraries do not load \(file too short\)"):
        find_devices("cuda")


def test_gpus_are_counted_by_the_driver(runtime) -> None:
    for driver, count in ((None, 0), (FakeDriver(3, status=1), 0), (FakeDriver(3), 3)):
        runtime(driver=driver)
        assert _devices.count_gpus() == count


def test_a_gpus_memory_is_asked_of_the_driver(runtime) -> None:
    for driver, size in ((None, None), (FakeDriver(1), None), (FakeDriver(2), 80 * 2**30)):
        runtime(driver=driver)
        assert _devices.gpu_memory_bytes(1) == size


def test_the_driver_has_each_platforms_name(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(_devices.ctypes, "CDLL", asked.append)
    for platform in ("linux", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        _devices._driver()
    assert asked == ["libcuda.so.1", "nvcuda.dll"]


def test_the_installed_wheel_is_found_beside_the_package() -> None:
    import onnxruntime

    assert onnxruntime.__version__ in _devices._installed().values()
