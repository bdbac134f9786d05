"""GPUs as the driver counts them; the driver is faked."""

from __future__ import annotations

import sys

import pytest
from tests.sdk.sessions.fake_devices import FakeDriver

from embedge._machine import gpu as _gpu


@pytest.fixture
def use(monkeypatch):
    """Put a driver in place of the machine's, or none."""

    def use(driver):
        def open_driver():
            if driver is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return driver

        monkeypatch.setattr(_gpu, "open_driver", open_driver)

    return use


def test_gpus_are_counted_by_the_driver(use) -> None:
    for driver, count in ((None, 0), (FakeDriver(3, status=1), 0), (FakeDriver(3), 3)):
        use(driver)
        assert _gpu.count_gpus() == count


def test_a_gpus_memory_is_asked_of_the_driver(use) -> None:
    for driver, size in ((None, None), (FakeDriver(1), None), (FakeDriver(2), 80 * 2**30)):
        use(driver)
        assert _gpu.gpu_memory_bytes(1) == size


def test_the_driver_has_each_platforms_name(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(_gpu.ctypes, "CDLL", asked.append)
    for platform in ("linux", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        _gpu.open_driver()
    assert asked == ["libcuda.so.1", "nvcuda.dll"]
