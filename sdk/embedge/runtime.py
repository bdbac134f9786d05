"""What a graph runs with on this machine, for tools that make or measure bundles: onnxruntime, processor, GPU."""

from __future__ import annotations

from embedge._machine.cpu import available_threads, cpu_name
from embedge._machine.own_memory import give_back
from embedge._sessions.cuda import cuda_problem
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.openvino import has_bfloat16, openvino_problem
from embedge._sessions.plain import open_on_cpu
from embedge._sessions.products import EXACT_INT8
from embedge._version import __version__

__all__ = [
    "EXACT_INT8",
    "__version__",
    "available_threads",
    "cpu_name",
    "cuda_problem",
    "give_back",
    "has_bfloat16",
    "import_onnxruntime",
    "open_on_cpu",
    "openvino_problem",
]
