"""torch and transformers: their first import, which neither reports to anyone nor can be cut in half; which it is."""

from __future__ import annotations

import contextlib
import os
from importlib import metadata
from importlib.util import find_spec

from embedge_export.interrupts import put_off_interrupts
from embedge_export.spec import ExportSpec


def load_libraries() -> None:
    """Import torch and transformers; a second call costs nothing.

    transformers imports onnxruntime where it is installed, so onnxruntime is told to keep quiet before. torch may be
    missing where an ONNX file is wrapped.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed meanwhile.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with put_off_interrupts():
        with contextlib.suppress(ModuleNotFoundError):
            import torch  # noqa: F401
        import transformers  # noqa: F401


def is_older() -> bool:
    """Whether transformers is of the generation before 5, which reads the same files otherwise."""
    return int(metadata.version("transformers").partition(".")[0]) < 5


def dtype_word() -> str:
    """What the installed transformers calls the precision that it loads weights in."""
    return "torch_dtype" if is_older() else "dtype"


def has_torch() -> bool:
    """Whether torch is installed; it is not imported."""
    return find_spec("torch") is not None


def has_transformers() -> bool:
    """Whether transformers is installed; it is not imported."""
    return find_spec("transformers") is not None


def is_light(spec: ExportSpec) -> bool:
    """Whether an export goes without torch and transformers: where it is told so, or one of them is missing."""
    if spec.reference == "auto":
        return not (has_torch() and has_transformers())
    return spec.reference == "numpy"


def how_to_install() -> str:
    """What to do where an export goes without torch and transformers, and cannot."""
    if has_torch() and has_transformers():
        return "Leave out --reference numpy."
    return "Install them with: pip install 'embedge[export-torch]'."
