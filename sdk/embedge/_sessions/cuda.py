"""Whether onnxruntime can use CUDA here, and if not, why; nothing falls back silently."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedge._machine.gpu import count_gpus, open_driver
from embedge._sessions.onnxruntime import import_onnxruntime

CUDA = "CUDAExecutionProvider"
CUDA_ADVICE = (
    "Install onnxruntime-gpu in place of onnxruntime, with the CUDA and cuDNN versions that it names, "
    "or use device='cpu'."
)
_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""


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


def _gpu_problem() -> str | None:
    try:
        driver = open_driver()
    except OSError as error:
        return f"onnxruntime has CUDA, but this machine has no NVIDIA driver ({error})"
    status = driver.cuInit(0)
    if status == _NO_DEVICE or (status == 0 and count_gpus() == 0):
        return "onnxruntime has CUDA, but the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide it)"
    return None if status == 0 else f"the NVIDIA driver does not start (CUDA error {status})"
