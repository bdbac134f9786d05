"""Operators of a graph as exported and as onnxruntime runs it, and the machine that figures were taken on."""

from __future__ import annotations

import platform
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from embedge.runtime import available_threads, cpu_name, open_on_cpu

_LARGEST_BYTES = 1_000_000_000


class Operators(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes of each operator a graph has, nodes inside branches included.

    Attributes:
        before: as exported.
        after: as onnxruntime runs it on this CPU; None where it was not asked.
    """

    before: dict[str, int]
    after: dict[str, int] | None


def count_operators(graph: Path, disabled_optimizers: tuple[str, ...], size_bytes: int) -> Operators:
    """Count a graph's operators before and after onnxruntime's optimisation.

    Args:
        graph: the .onnx file.
        disabled_optimizers: fusions that the SDK switches off for it.
        size_bytes: of the graph with its weights; above a gigabyte it is not optimised, which would write it again.
    """
    import onnx

    before = _count(onnx.load(str(graph), load_external_data=False).graph)
    if size_bytes > _LARGEST_BYTES:
        return Operators(before=before, after=None)
    with tempfile.TemporaryDirectory(prefix="embedge-") as scratch:
        optimised = Path(scratch) / "optimised.onnx"
        try:
            open_on_cpu(graph, disabled_optimizers=disabled_optimizers, optimised=optimised, threads=1)
            after = _count(onnx.load(str(optimised), load_external_data=False).graph)
        except Exception:  # a graph for CUDA alone; the report says that its operators were not counted
            return Operators(before=before, after=None)
    return Operators(before=before, after=after)


def machine() -> str:
    """The processor's model and how many of its cores this process may use; nothing that tells whose it is."""
    cores = available_threads()
    return f"{cpu_name()}, {cores} {'core' if cores == 1 else 'cores'}, {platform.system()}"


def _count(graph: Any) -> dict[str, int]:
    counts: Counter[str] = Counter()
    waiting = [graph]
    while waiting:
        for node in waiting.pop().node:
            counts[node.op_type] += 1
            waiting += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return dict(counts)
