"""What stands in for devices where there are none: sessions, an onnxruntime, a driver."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np

from embedge import SessionError
from embedge._sessions.devices import Device

TWO = [Device(kind="cuda", index=0), Device(kind="cuda", index=1)]


class FakeSession:
    """Answers with the sum of each row's token ids; one device may fail after some runs."""

    def __init__(self, device: Device, fail_after: dict[str, int]) -> None:
        self.device, self.runs = device, 0
        self._fail_after = fail_after.get(device.name)
        self._lock = threading.Lock()

    def run(self, output, feeds):
        time.sleep(0.002)  # a run takes time, else one device may do all before another's thread has begun
        with self._lock:
            self.runs += 1
            if self._fail_after is not None and self.runs > self._fail_after:
                raise SessionError(f"{self.device.name} is out of memory")
        return (feeds["input_ids"] * feeds["attention_mask"]).sum(1, keepdims=True).astype(np.float32)


class FakeRuntime:
    """An onnxruntime that offers what the test says; `registers` are the devices of a library that it is given."""

    __version__ = "9.9"

    def __init__(self, folder, offered=("CPUExecutionProvider",), plugins=(), registers=None) -> None:
        if registers is not None:
            self.register_execution_provider_library = lambda name, library: self._register(
                registers, library
            )
        self.__file__ = str(folder / "__init__.py")
        self._offered, self._plugins = list(offered), [SimpleNamespace(ep_name=name) for name in plugins]

    def get_available_providers(self):
        return self._offered

    def get_ep_devices(self):
        return self._plugins

    def _register(self, devices, library):
        if isinstance(devices, Exception):
            raise devices
        self.library = library
        self._plugins += devices
        self._offered += [device.ep_name for device in devices]


class FakeDriver:
    """An NVIDIA driver that shows so many GPUs."""

    def __init__(self, count: int, status: int = 0) -> None:
        self._count, self._status = count, status

    def cuInit(self, flags):  # noqa: N802
        return self._status

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self._count
        return 0

    def cuDeviceGet(self, handle, index):  # noqa: N802
        handle._obj.value = index
        return 0 if index < self._count else 101

    def cuDeviceTotalMem_v2(self, size, handle):  # noqa: N802
        size._obj.value = 80 * 2**30
        return 0


CUDA_TOO = ("CUDAExecutionProvider", "CPUExecutionProvider")


def with_library(folder):
    """Add the library of the CUDA provider to a fake onnxruntime's folder."""
    (folder / "capi").mkdir()
    (folder / "capi" / "libonnxruntime_providers_cuda.so").touch()
