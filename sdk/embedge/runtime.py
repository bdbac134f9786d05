"""What a graph runs with on this machine, for tools that make or measure bundles: onnxruntime, processor, GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedge._machine.cpu import EXACT_INT8, available_threads, cpu_name
from embedge._sessions.devices import cuda_problem
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._version import __version__

__all__ = [
    "EXACT_INT8",
    "__version__",
    "available_threads",
    "cpu_name",
    "cuda_problem",
    "import_onnxruntime",
    "open_on_cpu",
]
_FATAL = 4
"""Of onnxruntime's log: what goes wrong is raised."""
_IN_A_FILE_BYTES = "1024"


def open_on_cpu(
    graph: Path, *, disabled_optimizers: Sequence[str] = (), optimised: Path | None = None
) -> Any:
    """Open a graph on the CPU as onnxruntime opens it by default, without a word on stderr.

    Args:
        graph: the .onnx file, its external data beside it.
        disabled_optimizers: onnxruntime's fusions that must not run on it.
        optimised: file to write the graph to as onnxruntime runs it; its larger weights go to a file "weights" beside.

    Returns:
        An onnxruntime.InferenceSession.

    Raises:
        SessionError: onnxruntime cannot be imported. What it raises itself about the graph comes as it is.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", _IN_A_FILE_BYTES
        )
    return ort.InferenceSession(
        str(graph),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled_optimizers),
    )
