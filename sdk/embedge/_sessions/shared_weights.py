"""Weights of which several sessions on one CUDA device hold the same copy.

onnxruntime takes an initializer that is on the session's device as it is, if the memory is not its own. So the driver
gives the memory, and onnxruntime gets to know of it by DLPack.

Source: onnxruntime's `SessionOptions.add_initializer`; dlpack.h of DLPack 0.8; the CUDA driver's manual, chapters
Primary Context Management and Memory Management.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from embedge._contents.graphs import Weight
from embedge._machine.gpu import open_driver
from embedge._sessions.devices import Device
from embedge._sessions.onnxruntime import import_onnxruntime, plugin_devices
from embedge.errors import DeviceMemoryError

_ALIGNMENT = 256
_CUDA = 2
"""Of DLDeviceType."""
_CODES = {"i": 0, "u": 1, "f": 2}
_BFLOAT16 = 4
"""Of DLDataTypeCode."""
_MAX_DIMS = 8


class _Tensor(ctypes.Structure):
    """DLManagedTensor, and the room for its shape behind it."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("sizes", ctypes.c_int64 * _MAX_DIMS),
    )


def share_weights(device: Device) -> SharedWeights | None:
    """What sessions on a device may share; None where they are not to be had from outside."""
    takes_weights = hasattr(import_onnxruntime().OrtValue, "from_dlpack")
    if device.kind != "cuda" or plugin_devices(device.execution_provider) or not takes_weights:
        return None
    try:
        return SharedWeights(device)
    except OSError:  # the driver's library has another name here
        return None


class SharedWeights:
    """Weights in a device's memory, each once; given back when nothing refers to this object any more.

    Args:
        device: a GPU that onnxruntime's built-in CUDA provider uses.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._process = os.getpid()
        self._driver = open_driver()
        self._handle = ctypes.c_int(0)
        self._context = ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(self._handle), device.index)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)
        self._blocks: list[ctypes.c_uint64] = []
        self._values: dict[tuple[Any, ...], Any] = {}

    def values(self, weights: Sequence[Weight]) -> dict[str, Any]:
        """Values of onnxruntime for weights, by name; those that were asked for before are the same again.

        Raises:
            DeviceMemoryError: they do not fit.
        """
        new = [weight for weight in weights if _can_be_shared(weight) and _key(weight) not in self._values]
        if new:
            self._copy(new)
        return {weight.name: self._values[_key(weight)] for weight in weights if _can_be_shared(weight)}

    def _copy(self, weights: Sequence[Weight]) -> None:
        places, size = [], 0
        for weight in weights:
            places.append(size)
            size += -(-weight.array.nbytes // _ALIGNMENT) * _ALIGNMENT
        block = ctypes.c_uint64(0)
        with self._in_context():
            self._call("cuMemAlloc_v2", ctypes.byref(block), ctypes.c_size_t(size), size=size)
            self._blocks.append(block)
            for weight, place in zip(weights, places, strict=True):
                array = np.ascontiguousarray(weight.array)
                address = block.value + place
                self._call(
                    "cuMemcpyHtoD_v2",
                    ctypes.c_uint64(address),
                    ctypes.c_void_p(array.ctypes.data),
                    ctypes.c_size_t(array.nbytes),
                )
                self._values[_key(weight)] = value_at(address, weight, (_CUDA, self.device.index))

    @contextlib.contextmanager
    def _in_context(self) -> Iterator[None]:
        """On the context that onnxruntime's provider uses, whichever this thread has."""
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: Any, size: int = 0) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            raise DeviceMemoryError(
                f"{size / 1e6:.0f} MB of weights cannot be put into the memory of {self.device.name}: {name} answers "
                f"{status}. Use a smaller variant or another device, or leave out cuda_graphs.",
                device=self.device.name,
            )

    def __del__(self) -> None:
        blocks = getattr(self, "_blocks", [])
        if not blocks or self._process != os.getpid():
            return  # a child of a fork has no context, and the memory is its parent's
        self._values.clear()
        if not self._driver.cuCtxPushCurrent_v2(self._context):
            for block in blocks:
                self._driver.cuMemFree_v2(block)
            self._driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
            self._driver.cuDevicePrimaryCtxRelease_v2(self._handle)


def _can_be_shared(weight: Weight) -> bool:
    """Whether it is said where it lies, and DLPack has its type."""
    return weight.place is not None and weight.array.dtype.kind in _CODES and weight.array.ndim <= _MAX_DIMS


def _key(weight: Weight) -> tuple[Any, ...]:
    """Equal where the values are."""
    return weight.place, weight.array.dtype.str, weight.onnx_type, weight.array.shape


def value_at(address: int, weight: Weight, device: tuple[int, int]) -> Any:
    """A value of onnxruntime whose memory is there already.

    Args:
        address: of its first byte; the memory has to stay as long as the value.
        weight: its type and shape are taken.
        device: DLPack's numbers of the kind of device, and of which.
    """
    allocate, free = _c_memory()
    # allocated by C, so that C frees it, whatever has become of Python by then
    tensor = _Tensor.from_address(allocate(ctypes.sizeof(_Tensor)))
    tensor.data, (tensor.device_type, tensor.device_id) = address, device
    tensor.ndim = weight.array.ndim
    tensor.code = _CODES[weight.array.dtype.kind] if weight.onnx_type is None else _BFLOAT16
    tensor.bits, tensor.lanes = 8 * weight.array.itemsize, 1
    tensor.sizes[: weight.array.ndim] = weight.array.shape
    tensor.shape = ctypes.addressof(tensor) + _Tensor.sizes.offset
    tensor.strides, tensor.byte_offset, tensor.manager = None, 0, None
    tensor.deleter = free
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return import_onnxruntime().OrtValue.from_dlpack(capsule(ctypes.addressof(tensor), b"dltensor", None))


def _c_memory() -> tuple[Callable[[int], int], int]:
    """C's malloc, and the address of its free."""
    library = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    return library.malloc, ctypes.cast(library.free, ctypes.c_void_p).value or 0
