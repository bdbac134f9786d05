"""A machine with the onnxruntime and the driver that a test says."""

from __future__ import annotations

import pytest
from tests.sdk.sessions.fake_devices import FakeRuntime

from embedge._machine import gpu as _gpu
from embedge._sessions import cuda as _cuda
from embedge._sessions import devices as _devices
from embedge._sessions import onnxruntime as _onnxruntime
from embedge._sessions import openvino as _openvino


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """Put a fake onnxruntime and driver in place of the machine's."""

    def use(driver=None, installed=None, **fake):
        made = FakeRuntime(tmp_path, **fake)
        for module in (_cuda, _devices, _onnxruntime, _openvino):
            monkeypatch.setattr(module, "import_onnxruntime", lambda: made)
        monkeypatch.setattr(_cuda, "_installed", lambda: installed or {})

        def open_driver():
            if driver is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return driver

        for module in (_cuda, _gpu):
            monkeypatch.setattr(module, "open_driver", open_driver)
        monkeypatch.setattr(_cuda.ctypes, "CDLL", lambda name, mode=0: None)
        _forget()
        return tmp_path

    yield use
    _forget()


def _forget() -> None:
    _cuda.cuda_problem.cache_clear()
    _openvino.openvino_problem.cache_clear()
