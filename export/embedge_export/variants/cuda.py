"""The variants for CUDA: written anywhere, judged like every variant where there is a GPU, and held against float32.

Where there is none, their numbers stay unmeasured, which the manifest and everything made from it say. What can be held
against float32 there is that the same operators in float32, with padding kept, give the same hidden states, and that
none of their values comes near the end of float16; where one does, bfloat16 takes its place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from embedge.errors import ExportError, VerificationError
from embedge.manifest import UNMEASURED, Dtype, Variant
from embedge.runtime import cuda_problem, open_on_cpu
from embedge.types import FloatArray, IntArray
from embedge_export.graph.built.choices import CUDA_BF16, CUDA_FP16, Choices
from embedge_export.graph.outputs import attach_heads
from embedge_export.graph.route import (
    Described,
    Made,
    build_for_cuda,
    build_from_weights,
    build_twins,
    describe_for,
    has_query_graph,
)
from embedge_export.precisions import VARIANTS
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.weights import LoadedWeights
from embedge_export.variants.half_range import WeightWatch, overflow, watch
from embedge_export.write.graph_files import save_graph

if TYPE_CHECKING:
    import onnx

_CHOICES: dict[Dtype, Choices] = {"float16": CUDA_FP16, "bfloat16": CUDA_BF16}
_TWIN_GATE = 1e-3
"""Largest difference of a hidden state, whose components are near 1: sums in another order, never another sum."""
_BATCH = 8


class CudaVariants(msgspec.Struct, frozen=True, kw_only=True):
    """What was written for CUDA.

    Attributes:
        variants: by name.
        words: how far their operators in float32 are from the float32 graph, and why one stands in for another.
    """

    variants: dict[str, Variant]
    words: list[str]


def write_cuda_variants(
    checkpoint: Checkpoint,
    described: Described,
    tokenization: Tokenization,
    weights: LoadedWeights,
    feeds: Sequence[Mapping[str, IntArray]],
    names: Sequence[str],
    folder: Path,
) -> CudaVariants:
    """Write the graphs for CUDA into a bundle.

    Args:
        checkpoint: its facts.
        described: what they are built from, as `describe_for_cuda` gives it.
        tokenization: what they are asked with.
        weights: for the heads.
        feeds: single texts, to hold their operators against float32; with the inputs that the bundle's graphs take.
        names: of the variants asked for; where one would overflow, its stand-in is written.
        folder: the bundle.

    Raises:
        ExportError: a graph needs an input that the float32 graph does not have.
        VerificationError: a graph differs by more than sums in another order give.
    """
    variants: dict[str, Variant] = {}
    words: list[str] = []
    asked = list(names)
    for name in asked:
        stem, *query_stem = graph_stems(described, name)
        dtype, stand_in = VARIANTS[name].dtype, VARIANTS[name].stand_in
        choices = _CHOICES[dtype]
        difference, problem = hold_twins(described, choices, tokenization.max_seq_len, feeds)
        if problem is not None and stand_in is not None:
            words.append(f"{stand_in} in place of {name}, as float16 would overflow: {problem}")
            if stand_in not in asked:
                asked.append(stand_in)
            continue
        built = build_for_cuda(described, choices, tokenization.max_seq_len)
        words.append(f"{name}'s operators in float32 differ by {difference:.1e}")
        for graph, _ in filter(None, (built.graph, built.for_queries)):
            _take_inputs(graph, list(feeds[0]))
            attach_heads(graph, checkpoint, weights)
        graph, loads = built.graph
        file, data_files = save_graph(graph, folder, stem, loads)
        query_file = file
        if built.for_queries is not None:
            query_file, _ = save_graph(
                built.for_queries[0], folder, query_stem[0], built.for_queries[1], beside=(graph, data_files)
            )
        variants[name] = Variant(
            file=file,
            data_files=data_files,
            dtype=dtype,
            target="cuda",
            fidelity=UNMEASURED,
            score_heads=built.score_heads,
            pad_to_multiple_of=built.pad_to_multiple_of,
            query_file=query_file,
        )
    return CudaVariants(variants=variants, words=words)


def _take_inputs(graph: onnx.ModelProto, names: Sequence[str]) -> None:
    """Let a graph take the inputs of the float32 graph, which may be traced, and leave what it has no use for.

    Raises:
        ExportError: it needs one that the float32 graph does not have.
    """
    from onnx import TensorProto, helper

    own = [value.name for value in graph.graph.input]
    if lacking := [name for name in own if name not in names]:
        raise ExportError(
            f"optimize_for='cuda' needs the input {lacking[0]}, which the traced graph does not have; expected a graph "
            "that is built from the weights. Leave --route and --opset out."
        )
    for name in names:
        if name not in own:
            axes = ["batch_size", "sequence_length"]
            graph.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, axes))


def graph_stems(described: Described, name: str) -> tuple[str, ...]:
    """Names of a variant's graphs without their ending; the second, where there is one, answers single queries."""
    second = has_query_graph(described, _CHOICES[VARIANTS[name].dtype])
    stem = VARIANTS[name].stem
    return (stem, f"{stem}_query") if second else (stem,)


def describe_for_cuda(checkpoint: Checkpoint, described: Described | None) -> Described:
    """What a checkpoint's graphs for CUDA are built from.

    Args:
        checkpoint: its facts.
        described: what its float32 graph is built from; None where that is traced.

    Raises:
        ExportError: the checkpoint has no such graphs.
    """
    _check_mask(checkpoint)
    advice = "Export without it; the graphs for the CPU run on a GPU as well, slower."
    return describe_for("cuda", checkpoint, described, advice)


def _check_mask(checkpoint: Checkpoint) -> None:
    """Refuse what the operators would get wrong: they take the first tokens of a row for the real ones."""
    late = checkpoint.late_interaction
    if late is not None and late.expand_query and not late.attend_to_expansion:
        raise ExportError(
            "optimize_for='cuda' needs every token of a text to be attended to; this late-interaction checkpoint "
            "leaves a query's expansion out"
        )


def hold_twins(
    described: Described, choices: Choices, max_seq_len: int, feeds: Sequence[Mapping[str, IntArray]]
) -> tuple[float, str | None]:
    """Hold the graph for CUDA, in float32, against the float32 graph, on padded batches; that for single queries too.

    Args:
        described: what both are built from.
        choices: of the graph for CUDA.
        max_seq_len: no text is longer.
        feeds: single texts.

    Returns:
        The largest difference of any hidden state or logit, and what float16 would not hold, in words.

    Raises:
        VerificationError: it is more than sums in another order give.
    """
    built = build_twins(described, choices, max_seq_len)
    watched = [watch(graph) for graph, _ in built]
    weights = [WeightWatch(loads) for _, loads in built]
    worst, largest = 0.0, [np.zeros(len(names)) for names in watched]
    with tempfile.TemporaryDirectory(prefix="embedge-") as scratch:
        twins = [
            _open((graph, each.loads), Path(scratch), f"twin{index}")
            for index, ((graph, _), each) in enumerate(zip(built, weights, strict=True))
        ]
        full = _open(build_from_weights(described), Path(scratch), "full")
        for start in range(0, len(feeds), _BATCH):
            batch = _pad(feeds[start : start + _BATCH])
            (expected,) = _run(full, batch)
            real = batch["attention_mask"] > 0 if expected.ndim == 3 else slice(None)
            for index, twin in enumerate(twins):
                rows, *each_largest = _run(twin, batch)
                largest[index] = np.maximum(largest[index], each_largest)
                worst = max(worst, float(np.abs(rows[real] - expected[real]).max()))
        del twin, twins, full
    if not worst <= _TWIN_GATE:
        raise VerificationError(
            f"the graph for CUDA is not the checkpoint: its operators in float32 differ by {worst:.3g}; expected at "
            f"most {_TWIN_GATE:g}. Nothing was written. Export without optimize_for='cuda', and report the checkpoint."
        )
    problems = [
        *(each.overflow() for each in weights),
        *(overflow(names, values) for names, values in zip(watched, largest, strict=True)),
    ]
    return worst, next((problem for problem in problems if problem is not None), None)


def gpu_here() -> bool:
    """Whether variants for CUDA can be judged on this machine."""
    return cuda_problem() is None


def _open(made: Made, folder: Path, stem: str) -> Any:
    graph, loads = made
    file, _ = save_graph(graph, folder, stem, loads)
    return open_on_cpu(folder / file)


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
