"""The only importer of onnxruntime, and its messages in words."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from embedge.errors import SessionError

_SOURCE_LINE = re.compile(
    # a C++ file and line, then the function that raised, with its template arguments
    r"\S*\.(?:cc|cpp|cu|cuh|h|hpp):\d+,?\s+(?:[\w:<>~*&,' ]*\([^()]*\)(?:\s*const)?(?:::<lambda\([^()]*\)>)?\s*)?"
    r"(?:\[with [^\]]*\]\s*)?"
)
_STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
_CUDA_TAIL = re.compile(r"\s*; GPU=.*")
_VERSION = re.compile(r"(\d+)\.(\d+)")
_CAUSAL_IN_BLOCKS = (1, 28)


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off, unless the user's environment already decides that.

    Raises:
        SessionError: it is not installed, or cannot be loaded.
    """
    stated = "ORT_DISABLE_TELEMETRY" in os.environ
    came_late = "onnxruntime" in sys.modules
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error  # Ctrl-C in the middle of it
        raise SessionError(
            f"onnxruntime cannot be imported ({error}); expected onnxruntime or onnxruntime-gpu. "
            "Install one: pip install onnxruntime"
        ) from error
    if came_late and not stated and hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()  # the application imported it first, which the variable is too late for
    return onnxruntime


def plugin_devices(provider: str) -> list[Any]:
    """Devices of a provider that came as a plugin and was registered; none of one that onnxruntime was built with."""
    ort = import_onnxruntime()
    if not hasattr(ort, "get_ep_devices"):
        return []
    devices = [device for device in ort.get_ep_devices() if device.ep_name == provider]
    if provider in ort.get_available_providers():  # which names registered plugins, too
        return [device for device in devices if "library_path" in device.ep_metadata]
    return devices


def causal_in_blocks() -> bool:
    """Whether onnxruntime's causal attention works in blocks on the CPU, or holds the scores of whole texts.

    Source:
        GroupQueryAttention of 8 heads over 4,096 tokens takes 47 MB with onnxruntime 1.28, 575 MB with 1.27.
    """
    numbers = _VERSION.match(str(import_onnxruntime().__version__))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _CAUSAL_IN_BLOCKS


def in_words(error: BaseException) -> str:
    """The first line of onnxruntime's message, without C++ files and lines, and without a full stop."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    text = _CUDA_TAIL.sub("", _SOURCE_LINE.sub("", _STATUS.sub("", lines[0])))
    return " ".join(text.split()).rstrip(". ") or type(error).__name__
