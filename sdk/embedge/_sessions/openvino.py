"""Whether onnxruntime can use OpenVINO here, and if not, why; and what it is told in place of its own choices."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from embedge._machine.cpu import cpu_features
from embedge._sessions.onnxruntime import import_onnxruntime, plugin_devices
from embedge.errors import ParamsError

OPENVINO = "OpenVINOExecutionProvider"
OPENVINO_ADVICE = (
    'Install its plugin beside onnxruntime (pip install "embedge[openvino]": Intel processors, Linux and Windows), or '
    "onnxruntime-openvino in place of onnxruntime (x86-64 processors), or use device='cpu'."
)
_PLUGIN = "onnxruntime_ep_openvino"
_PRECISION = "INFERENCE_PRECISION_HINT"
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


@functools.cache
def openvino_problem() -> str | None:
    """Why OpenVINO cannot be used, or None. Its plugin, where it is installed, is registered with onnxruntime."""
    ort = import_onnxruntime()
    if OPENVINO in ort.get_available_providers() or plugin_devices(OPENVINO):
        return None
    try:
        plugin = import_module(_PLUGIN)
    except ImportError:
        return f"onnxruntime {ort.__version__} has no {OPENVINO}, and no plugin {_PLUGIN} is installed"
    if not hasattr(ort, "register_execution_provider_library"):
        return f"onnxruntime {ort.__version__} takes no plugins; expected 1.23 or newer"
    try:
        ort.register_execution_provider_library(_PLUGIN, plugin.get_library_path())
    except Exception as error:  # onnxruntime raises many unrelated classes
        return f"its plugin does not load: {error}"
    if not plugin_devices(OPENVINO):
        vendors = ", ".join(dict.fromkeys(each.device.vendor or "unknown" for each in ort.get_ep_devices()))
        return f"its plugin finds no device of Intel's here; the hardware is of {vendors}"
    return None


def device_type_problem(device_type: str) -> str | None:
    """Why OpenVINO's plugin has no such device ("CPU", "GPU", "NPU"), or None; without a plugin, loading tells."""
    there = [device.ep_metadata.get("ov_device", "") for device in plugin_devices(OPENVINO)]
    if not there or device_type in there:
        return None
    return f"device_type={device_type!r} is not there; OpenVINO finds {', '.join(there)}"


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16, which OpenVINO would otherwise widen without a word."""
    return not _BFLOAT16.isdisjoint(cpu_features())


def openvino_settings(given: Mapping[str, str], *, threads: int, bfloat16: bool) -> dict[str, str]:
    """The provider's options: those of the caller, with precision and threads, which OpenVINO would choose itself.

    Args:
        given: by the provider's names.
        threads: of a run on the CPU.
        bfloat16: multiply in bfloat16, not in float32.

    Raises:
        ParamsError: the caller states a precision, which the variant does, or a load_config that is none.
    """
    device_type = given.get("device_type", "CPU")
    try:
        config: Any = json.loads(given.get("load_config", "{}"))
        part = config.setdefault(device_type, {})
        stated = "precision" in given or _PRECISION in part
    except (ValueError, AttributeError, TypeError) as error:
        raise ParamsError(
            f"load_config={given['load_config']!r} is not possible; expected JSON of settings by device, as in "
            '{"CPU": {"PERFORMANCE_HINT": "LATENCY"}}'
        ) from error
    if stated:
        raise ParamsError(
            "provider_options state a precision, which the variant does: expected variant='fp32_openvino' or "
            "'bf16_openvino' without it"
        )
    part[_PRECISION] = "bf16" if bfloat16 else "f32"
    if device_type == "CPU":
        part.setdefault("INFERENCE_NUM_THREADS", str(threads))
    return {**given, "load_config": json.dumps(config)}
