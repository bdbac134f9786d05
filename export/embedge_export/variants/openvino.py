"""The variants for OpenVINO: one graph of single operators, which its provider takes whole, in two precisions.

OpenVINO multiplies in the precision that it is told: float32, or bfloat16 where the processor has it. So both variants
are one file, and its large weights are those of the float32 graph. They are judged like every variant where OpenVINO is
installed; elsewhere their numbers stay unmeasured, which the manifest and everything made from it say. The operators
are ONNX's, so that they are held against float32 on the CPU's provider in any case.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedge.errors import ExportError, VerificationError
from embedge.manifest import UNMEASURED, Variant
from embedge.runtime import has_bfloat16, open_on_cpu, openvino_problem
from embedge.types import IntArray
from embedge_export.graph.outputs import attach_heads
from embedge_export.graph.route import Chosen, Described, build_from_weights, build_plain, describe_for
from embedge_export.precisions import VARIANTS
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.weights import LoadedWeights
from embedge_export.write.graph_files import save_graph

if TYPE_CHECKING:
    import onnx

OPENVINO_STEM = "model_openvino"
_GATE = 1e-3
"""Largest difference of a hidden state, whose components are near 1: sums in another order, never another sum."""


def write_openvino_variants(
    checkpoint: Checkpoint,
    chosen: Chosen,
    weights: LoadedWeights,
    feeds: Sequence[Mapping[str, IntArray]],
    names: Sequence[str],
    written: tuple[onnx.ModelProto, Variant],
    folder: Path,
) -> dict[str, Variant]:
    """Write the graph for OpenVINO into a bundle.

    Args:
        checkpoint: its facts.
        chosen: how the float32 graph was made.
        weights: for the heads.
        feeds: single texts, to hold its operators against float32; with the inputs that the bundle's graphs take.
        names: of the variants asked for.
        written: the float32 graph and its variant, whose weights are shared.
        folder: the bundle.

    Raises:
        ExportError: the checkpoint has no such graph.
        VerificationError: the graph differs by more than sums in another order give.
    """
    described = describe_for_openvino(checkpoint, chosen.described)
    _hold(described, feeds)
    graph, loads = build_plain(described)
    attach_heads(graph, checkpoint, weights)
    _check_inputs(graph, list(feeds[0]))
    full, variant = written
    beside = None if chosen.described is None else (full, variant.data_files)
    file, data_files = save_graph(graph, folder, OPENVINO_STEM, loads, beside=beside)
    heads = max(layer.attention.num_heads for layer in described.encoder.layers)
    return {
        name: Variant(
            file=file,
            data_files=data_files,
            dtype=VARIANTS[name].dtype,
            target="openvino",
            fidelity=UNMEASURED,
            score_heads=heads,
        )
        for name in names
    }


def describe_for_openvino(checkpoint: Checkpoint, described: Described | None) -> Described:
    """What a checkpoint's graph for OpenVINO is built from.

    Args:
        checkpoint: its facts.
        described: what its float32 graph is built from; None where that is traced.

    Raises:
        ExportError: the checkpoint has no such graph.
    """
    return describe_for("openvino", checkpoint, described, "Export without it.")


def openvino_runs(variant: Variant) -> bool:
    """Whether a variant for OpenVINO can be judged on this machine."""
    return openvino_problem() is None and (variant.dtype != "bfloat16" or has_bfloat16())


def _check_inputs(graph: onnx.ModelProto, names: Sequence[str]) -> None:
    own = [value.name for value in graph.graph.input]
    if set(own) != set(names):
        raise ExportError(
            f"optimize_for='openvino' has a graph with the inputs {', '.join(own)}, the traced one takes "
            f"{', '.join(names)}; expected a graph that is built from the weights. Leave --route and --opset out."
        )


def _hold(described: Described, feeds: Sequence[Mapping[str, IntArray]]) -> None:
    """Hold the graph against the float32 graph, on the CPU's provider."""
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="embedge-") as scratch:
        sessions = [
            _open(made, Path(scratch), stem)
            for stem, made in (("plain", build_plain(described)), ("full", build_from_weights(described)))
        ]
        wanted = {value.name for value in sessions[0].get_inputs()}
        for feed in feeds:
            given = {name: array for name, array in feed.items() if name in wanted}
            (plain,), (full,) = (session.run(None, given) for session in sessions)
            worst = max(worst, float(np.abs(plain - full).max()))
        del sessions
    if not worst <= _GATE:
        raise VerificationError(
            f"the graph for OpenVINO is not the checkpoint: its operators differ by {worst:.3g}; expected at most "
            f"{_GATE:g}. Nothing was written. Export without optimize_for='openvino', and report the checkpoint."
        )


def _open(made: tuple[onnx.ModelProto, Mapping[str, Any]], folder: Path, stem: str) -> Any:
    file, _ = save_graph(made[0], folder, stem, made[1])
    return open_on_cpu(folder / file)
