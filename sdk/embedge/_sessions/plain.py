"""A graph on the CPU as onnxruntime opens it by default, for tools that look into graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedge._sessions.onnxruntime import import_onnxruntime

if TYPE_CHECKING:
    import onnxruntime

_FATAL = 4
"""Of onnxruntime's log: what goes wrong is raised."""
_IN_A_FILE_BYTES = "1024"


def open_on_cpu(
    graph: Path,
    *,
    disabled_optimizers: Sequence[str] = (),
    optimised: Path | None = None,
    threads: int | None = None,
) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU as onnxruntime opens it by default, without a word on stderr.

    Args:
        graph: the .onnx file, its external data beside it.
        disabled_optimizers: onnxruntime's fusions that must not run on it.
        optimised: file to write the graph to as onnxruntime runs it; its larger weights go to a file "weights" beside.
            That is what it is opened for; it then runs slower than others.
        threads: that a run takes; None leaves it to onnxruntime. With one, several runs at a time are the fastest.

    Raises:
        SessionError: onnxruntime cannot be imported. Errors about the graph are onnxruntime's own.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    if threads is not None:
        options.intra_op_num_threads = threads
    if optimised is not None:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.optimized_model_filepath = str(optimised)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", _IN_A_FILE_BYTES
        )
    session: onnxruntime.InferenceSession = ort.InferenceSession(
        str(graph),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled_optimizers),
    )
    return session
