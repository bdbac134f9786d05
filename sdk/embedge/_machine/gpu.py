"""NVIDIA GPUs of this machine, as the driver counts them; onnxruntime is not asked."""

from __future__ import annotations

import ctypes
import sys
from typing import Any


def open_driver() -> Any:
    """The driver's library.

    Raises:
        OSError: there is none.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    return ctypes.CDLL(name)


def count_gpus() -> int:
    """GPUs that the driver shows to this process; 0 without a driver."""
    count = ctypes.c_int(0)
    try:
        driver = open_driver()
    except OSError:
        return 0
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def gpu_memory_bytes(index: int) -> int | None:
    """All memory of a GPU; None where the driver does not say."""
    handle, size = ctypes.c_int(0), ctypes.c_size_t(0)
    try:
        driver = open_driver()
    except OSError:
        return None
    if (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(handle), index)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    ):
        return None
    return size.value
