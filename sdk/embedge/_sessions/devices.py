"""From the user's words for a device to what onnxruntime offers on this machine; nothing falls back silently."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from embedge._sessions.onnxruntime import import_onnxruntime
from embedge.errors import ParamsError, ProviderUnavailableError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
UNTESTED = {
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
"""Further execution providers by the user's word; they get the same checks, and no release was tested on them."""

CUDA_ADVICE = (
    "Install onnxruntime-gpu in place of onnxruntime, with the CUDA and cuDNN versions that it names, "
    "or use device='cpu'."
)
_WORDS = '"cpu", "cuda", "cuda:N", "auto", or one of ' + ", ".join(f'"{word}"' for word in UNTESTED)
_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that onnxruntime was found to offer.

    Attributes:
        kind: "cpu", "cuda", or a key of UNTESTED.
        index: which GPU; 0 for everything but CUDA.
        reason: why this one.
        options: settings of the execution provider, beyond those that embedge makes.
    """

    kind: str
    index: int = 0
    reason: str = "asked for"
    options: tuple[tuple[str, str], ...] = ()

    @property
    def execution_provider(self) -> str:
        """Name that onnxruntime has for it."""
        return {"cpu": CPU, "cuda": CUDA, **UNTESTED}[self.kind]

    @property
    def name(self) -> str:
        """The user's word for it."""
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


def find_devices(
    device: str | Sequence[str], provider_options: Mapping[str, Any] | None = None
) -> list[Device]:
    """Turn the user's words into devices that exist here.

    Args:
        device: "cpu", "cuda", "cuda:N" or "auto"; a key of UNTESTED; or a list of different "cuda:N".
        provider_options: settings of the execution provider, by onnxruntime's names.

    Raises:
        ParamsError: another word, a device twice, a list that mixes kinds, or options for the CPU.
        ProviderUnavailableError: onnxruntime does not offer it here.
    """
    options = _checked_options(provider_options)
    if isinstance(device, str):
        words: list[Any] = [device]
    else:
        words = list(device) if hasattr(device, "__iter__") else [device]
        if not words:
            raise ParamsError(
                'device=[] names none; expected "cpu", "cuda", "auto", or a list such as ["cuda:0", "cuda:1"]'
            )
    found = [_find_device(word) for word in words]
    if len({d.name for d in found}) < len(found) or (len(found) > 1 and any(d.kind != "cuda" for d in found)):
        raise ParamsError(
            f'device={words!r} is not possible; a list names different GPUs, as in ["cuda:0", "cuda:1"]'
        )
    if options and found[0].kind == "cpu":
        raise ParamsError(
            f"provider_options={dict(options)!r} are settings of an accelerator, and device={device!r} is the CPU "
            f"here ({found[0].reason}); leave them out"
        )
    return [msgspec.structs.replace(d, options=options) for d in found]


def _checked_options(provider_options: Any) -> tuple[tuple[str, str], ...]:
    if provider_options is None:
        return ()
    if not isinstance(provider_options, Mapping) or not all(
        isinstance(key, str) and isinstance(value, (str, int, float, bool))
        for key, value in provider_options.items()
    ):
        raise ParamsError(
            f"provider_options={provider_options!r} is not possible; expected a dict from onnxruntime's names of "
            'settings to text or numbers, as in {"device_type": "GPU"}'
        )
    return tuple((key, str(value)) for key, value in provider_options.items())


def _find_device(device: Any) -> Device:
    word = str(device).lower()
    if word in UNTESTED:
        return _find_untested(word)
    matched = re.fullmatch(r"(cpu|auto|cuda)(?::(\d+))?", str(device))
    if matched is None or (matched[2] and matched[1] != "cuda"):
        raise ParamsError(f"device={device!r} is not known; expected {_WORDS}")
    if matched[1] == "cpu":
        return Device(kind="cpu")
    problem = cuda_problem()
    if matched[1] == "auto":
        if problem is None:
            return Device(
                kind="cuda", reason="auto: onnxruntime offers CUDA, its libraries load, a GPU is there"
            )
        return Device(kind="cpu", reason=f"auto: {problem}")
    if problem is not None:
        raise ProviderUnavailableError(f"device={device!r} cannot be used: {problem}. {CUDA_ADVICE}")
    index, count = int(matched[2] or 0), count_gpus()
    if index >= count:
        there = ", ".join(f"cuda:{i}" for i in range(count))
        raise ProviderUnavailableError(
            f"device={device!r} is not there; this machine has {count} GPU{'s' if count > 1 else ''} ({there})"
        )
    return Device(kind="cuda", index=index)


def _find_untested(word: str) -> Device:
    ort = import_onnxruntime()
    name = UNTESTED[word]
    offered = [*ort.get_available_providers(), *(d.ep_name for d in plugin_devices(name))]
    if name not in offered:
        raise ProviderUnavailableError(
            f"device={word!r} cannot be used: onnxruntime {ort.__version__} here offers {', '.join(offered)}, "
            f"not {name}. Install the onnxruntime wheel that has it, or register its plugin library "
            "(onnxruntime.register_execution_provider_library) before the model is loaded."
        )
    return Device(kind=word, reason=f"asked for; untested: embedge's releases are not tested with {name}")


def plugin_devices(provider: str) -> list[Any]:
    """Devices of a provider that came as a plugin and was registered by the caller."""
    ort = import_onnxruntime()
    if provider in ort.get_available_providers() or not hasattr(ort, "get_ep_devices"):
        return []
    return [device for device in ort.get_ep_devices() if device.ep_name == provider]


@functools.cache
def cuda_problem() -> str | None:
    """Why CUDA cannot be used, or None. onnxruntime itself only warns, and runs on the CPU."""
    ort = import_onnxruntime()
    offered = ort.get_available_providers()
    if CUDA not in offered:
        return _not_offered(ort.__version__, offered)
    if hasattr(ort, "preload_dlls"):
        # finds the libraries of the nvidia-* wheels and of torch; says nothing where there are none
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    folder = Path(ort.__file__).parent / "capi"
    libraries = sorted(folder.glob("*onnxruntime_providers_cuda*"))
    if not libraries:
        return (
            f"onnxruntime {ort.__version__} says that it has CUDA, but its library onnxruntime_providers_cuda is not "
            f"in {folder}, as after a half-removed installation"
        )
    try:
        for library in sorted(folder.glob("*onnxruntime_providers_shared*")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        for library in libraries:
            ctypes.CDLL(str(library))
    except OSError as error:
        return _not_loaded(ort, error)
    return _gpu_problem()


def _not_offered(version: str, offered: Sequence[str]) -> str:
    installed = _installed()
    if "onnxruntime" in installed and "onnxruntime-gpu" in installed:
        return (
            f"onnxruntime {installed['onnxruntime']} and onnxruntime-gpu {installed['onnxruntime-gpu']} are both "
            "installed, and the files of the first, which is for the CPU only, lie over those of the second; "
            "remove both, then install onnxruntime-gpu alone (pip uninstall -y onnxruntime onnxruntime-gpu; "
            "pip install onnxruntime-gpu)"
        )
    return f"onnxruntime {version} here offers {', '.join(offered)}, not {CUDA}"


def _not_loaded(ort: Any, error: OSError) -> str:
    from importlib import import_module

    built_with = ""
    with contextlib.suppress(ImportError, AttributeError):
        built_with = import_module("onnxruntime.capi.build_and_package_info").cuda_version
    missing = re.search(
        r"(?:lib)?(cudnn|cublas|cublasLt|cudart|cufft|curand|nvrtc)\w*\.so\.(\d+)", str(error)
    )
    what = ""
    if missing is not None:
        what = (
            f": cuDNN {missing[2]} is missing" if missing[1] == "cudnn" else f": CUDA {missing[2]} is missing"
        )
    return (
        f"onnxruntime {ort.__version__} has CUDA{f', built with {built_with}' if built_with else ''}, but its "
        f"libraries do not load{what} ({error})"
    )


def _installed() -> dict[str, str]:
    """Versions of the wheels that hold onnxruntime, by their names.

    Read from the folders beside the package: importlib.metadata costs 40 ms, and every start with "auto" asks.
    """
    folder = Path(import_onnxruntime().__file__).parent.parent
    found = {}
    for info in folder.glob("onnxruntime*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        found[name.lower().replace("_", "-")] = version
    return found


def _driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    return ctypes.CDLL(name)


def _gpu_problem() -> str | None:
    try:
        driver = _driver()
    except OSError as error:
        return f"onnxruntime has CUDA, but this machine has no NVIDIA driver ({error})"
    status = driver.cuInit(0)
    if status == _NO_DEVICE or (status == 0 and count_gpus() == 0):
        return "onnxruntime has CUDA, but the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide it)"
    return None if status == 0 else f"the NVIDIA driver does not start (CUDA error {status})"


def count_gpus() -> int:
    """GPUs that the driver shows to this process; 0 without a driver."""
    count = ctypes.c_int(0)
    try:
        driver = _driver()
    except OSError:
        return 0
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def gpu_memory_bytes(index: int) -> int | None:
    """All memory of a GPU; None where the driver does not say."""
    handle, size = ctypes.c_int(0), ctypes.c_size_t(0)
    try:
        driver = _driver()
    except OSError:
        return None
    if (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(handle), index)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    ):
        return None
    return size.value
