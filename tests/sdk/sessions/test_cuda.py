"""Whether CUDA can be used, and what is said where it cannot. No GPU needed: onnxruntime and the driver are faked."""

from __future__ import annotations

import pytest
from tests.sdk.sessions.fake_devices import CUDA_TOO, FakeDriver, FakeRuntime, with_library

from embedge import ProviderUnavailableError
from embedge._sessions import cuda as _cuda
from embedge._sessions.devices import find_devices


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

    monkeypatch.setattr(_cuda.ctypes, "CDLL", load)
    with pytest.raises(ProviderUnavailableError, match=r"cuDNN 9 is missing \(libcudnn.so.9"):
        find_devices("cuda")


def test_auto_takes_cuda_where_all_of_it_is_there(runtime, monkeypatch, capsys) -> None:
    folder = runtime(offered=CUDA_TOO, driver=FakeDriver(1))
    with_library(folder)
    (folder / "capi" / "libonnxruntime_providers_shared.so").touch()
    loaded = []
    monkeypatch.setattr(_cuda.ctypes, "CDLL", lambda name, mode=0: loaded.append(name))
    monkeypatch.setattr(FakeRuntime, "preload_dlls", lambda self: print("noise"), raising=False)
    (found,) = find_devices("auto")
    assert (found.name, found.reason[:24]) == ("cuda:0", "auto: onnxruntime offers")
    assert [name.rpartition("_")[2] for name in loaded] == ["shared.so", "cuda.so"]
    assert capsys.readouterr().out == ""


def test_libraries_that_do_not_load_for_another_reason(runtime, monkeypatch) -> None:
    with_library(runtime(offered=CUDA_TOO, driver=FakeDriver(1)))

    def load(name, mode=0):
        raise OSError("file too short")

    monkeypatch.setattr(_cuda.ctypes, "CDLL", load)
    with pytest.raises(ProviderUnavailableError, match=r"its libraries do not load \(file too short\)"):
        find_devices("cuda")


def test_the_installed_wheel_is_found_beside_the_package() -> None:
    import onnxruntime

    assert onnxruntime.__version__ in _cuda._installed().values()
