"""The variant for CUDA: written anywhere, judged like every variant where there is a GPU, and held against float32.

Where there is none, its numbers stay unmeasured, which the manifest and everything made from it say. What can be held
against float32 there is that the same operators in float32, with padding kept, give the same hidden states, and that
none of their values comes near the end of half precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedge._devices import cuda_problem
from embedge._onnxruntime import import_onnxruntime
from embedge._types import FloatArray, IntArray
from embedge.errors import ExportError, VerificationError
from embedge.manifest import Variant
from embedge_export.assembly import UNMEASURED
from embedge_export.attention import score_heads
from embedge_export.checkpoint import Checkpoint
from embedge_export.graphs.reading import UnsupportedError
from embedge_export.half_range import check_range, finite, watch
from embedge_export.outputs import attach_heads
from embedge_export.route import Made, build_for_cuda, build_from_weights, build_twin
from embedge_export.spec import CUDA_VARIANT
from embedge_export.tokenizer import Tokenization
from embedge_export.write import save_graph

_TWIN_GATE = 1e-3
"""Largest difference of a hidden state, whose components are near 1: sums in another order, never another sum."""
_BATCH = 8


def write_cuda_variant(
    checkpoint: Checkpoint, tokenization: Tokenization, model: Any, folder: Path
) -> Variant:
    """Write the graph for CUDA into a bundle.

    Raises:
        ExportError: the checkpoint has no such graph.
    """
    _check_padding(checkpoint, tokenization)
    try:
        graph, loads = build_for_cuda(checkpoint)
    except UnsupportedError as error:
        raise ExportError(
            f"optimize_for='cuda' needs a graph that is built from the weights: {error}. Export without it; "
            "the graphs for the CPU run on a GPU as well, slower."
        ) from error
    heads = score_heads(graph, checkpoint.num_attention_heads)
    attach_heads(graph, checkpoint, model)
    file, data_files = save_graph(graph, folder, f"model_{CUDA_VARIANT}", finite(loads))
    return Variant(
        file=file,
        data_files=data_files,
        dtype="float16",
        target="cuda",
        fidelity=UNMEASURED,
        score_heads=heads,
    )


def _check_padding(checkpoint: Checkpoint, tokenization: Tokenization) -> None:
    """Refuse what the fused operators would get wrong: they take the first tokens of a row for the real ones."""
    late = checkpoint.late_interaction
    if tokenization.spec.padding_side == "left" and not checkpoint.is_decoder:
        raise ExportError("optimize_for='cuda' needs padding on the right; this tokenizer pads on the left")
    if late is not None and late.expand_query and not late.attend_to_expansion:
        raise ExportError(
            "optimize_for='cuda' needs every token of a text to be attended to; this late-interaction checkpoint "
            "leaves a query's expansion out"
        )


def twin_difference(checkpoint: Checkpoint, feeds: Sequence[Mapping[str, IntArray]]) -> float:
    """How far the graph for CUDA in float32 is from the float32 graph, on padded batches; both of its forms.

    Args:
        checkpoint: what both are built from.
        feeds: single texts.

    Returns:
        The largest difference of any hidden state or logit.

    Raises:
        VerificationError: it is more than sums in another order give.
        ExportError: values come near the end of half precision.
    """
    made, fused = build_twin(checkpoint)
    forms = [made, build_twin(checkpoint, merged=False)[0]] if fused else [made]
    watched = [watch(graph, head=not fused) for graph, _ in forms]
    worst, largest = 0.0, [np.zeros(len(names)) for names in watched]
    with tempfile.TemporaryDirectory(prefix="embedge-") as scratch:
        twins = [_open(form, Path(scratch), f"twin{index}") for index, form in enumerate(forms)]
        full = _open(build_from_weights(checkpoint), Path(scratch), "full")
        for start in range(0, len(feeds), _BATCH):
            batch = _pad(feeds[start : start + _BATCH])
            (expected,) = _run(full, batch)
            real = batch["attention_mask"] > 0 if expected.ndim == 3 else slice(None)
            for index, twin in enumerate(twins):
                rows, *each = _run(twin, batch)
                largest[index] = np.maximum(largest[index], each)
                worst = max(worst, float(np.abs(rows[real] - expected[real]).max()))
        del twin, twins, full
    if not worst <= _TWIN_GATE:
        raise VerificationError(
            f"the graph for CUDA is not the checkpoint: its operators in float32 differ by {worst:.3g}; expected at "
            f"most {_TWIN_GATE:g}. Nothing was written. Export without optimize_for='cuda', and report the checkpoint."
        )
    for names, values in zip(watched, largest, strict=True):
        check_range(names, values)
    return worst


def gpu_here() -> bool:
    """Whether the variant can be judged on this machine."""
    return cuda_problem() is None


def _open(made: Made, folder: Path, stem: str) -> Any:
    graph, loads = made
    file, _ = save_graph(graph, folder, stem, loads)
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])


def _run(session: Any, batch: Mapping[str, IntArray]) -> list[FloatArray]:
    wanted = {value.name for value in session.get_inputs()}
    outputs: list[FloatArray] = session.run(
        None, {name: array for name, array in batch.items() if name in wanted}
    )
    return outputs


def _pad(feeds: Sequence[Mapping[str, IntArray]]) -> dict[str, IntArray]:
    longest = max(each["input_ids"].shape[1] for each in feeds)
    return {
        name: np.concatenate(
            [np.pad(each[name], ((0, 0), (0, longest - each[name].shape[1]))) for each in feeds]
        )
        for name in feeds[0]
    }
