"""The only importer of onnxruntime, and its messages in words."""

from __future__ import annotations

import os
import re
from typing import Any

from embedge.errors import SessionError

_SOURCE_LINE = re.compile(
    # a C++ file and line, then the function that raised, with its template arguments
    r"\S*\.(?:cc|cpp|cu|cuh|h|hpp):\d+,?\s+(?:[\w:<>~*&,' ]*\([^()]*\)(?:\s*const)?(?:::<lambda\([^()]*\)>)?\s*)?"
    r"(?:\[with [^\]]*\]\s*)?"
)
_STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
_CUDA_TAIL = re.compile(r"\s*; GPU=.*")


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off, unless the user's environment already decides that.

    Raises:
        SessionError: it is not installed, or cannot be loaded.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise SessionError(
            f"onnxruntime cannot be imported ({error}); expected onnxruntime or onnxruntime-gpu. "
            "Install one: pip install onnxruntime"
        ) from error
    return onnxruntime


def in_words(error: BaseException) -> str:
    """The first line of onnxruntime's message, without C++ files and lines, and without a full stop."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    text = _CUDA_TAIL.sub("", _SOURCE_LINE.sub("", _STATUS.sub("", lines[0])))
    return " ".join(text.split()).rstrip(". ") or type(error).__name__
