"""torch to ONNX through optimum: the general route, for every architecture that optimum describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedge.errors import ExportError
from embedge_export.checkpoint import Checkpoint, Kind
from embedge_export.outputs import HIDDEN, traces_base
from embedge_export.weights import quiet

if TYPE_CHECKING:
    import onnx
    import torch

_TASKS: dict[Kind, str] = {
    "embedding": "feature-extraction",
    "late_interaction": "feature-extraction",
    "sparse": "fill-mask",
    "classifier": "text-classification",
    "token_classifier": "token-classification",
    "reward": "token-classification",
    "causal_reranker": "feature-extraction",
}
"""optimum's words for what is traced."""


def trace(model: torch.nn.Module, checkpoint: Checkpoint, opset: int, scratch: Path) -> onnx.ModelProto:
    """Trace a loaded model to a graph that holds its weights.

    optimum's own validation is left out: verify.py compares through the SDK, on real texts, and fails closed.

    Args:
        model: what `load_model` returned.
        checkpoint: its facts.
        opset: version of the ONNX operator set.
        scratch: folder for a temporary file of the graph's size.

    Returns:
        A graph with inputs named as in the manifest and one output, last_hidden_state or logits.

    Raises:
        ExportError: optimum has no description of the architecture, or tracing failed.
    """
    import onnx
    from optimum.exporters.onnx import export

    task = _TASKS[checkpoint.kind]
    if traces_base(checkpoint):
        model, task = _base_model(model), "feature-extraction"
    path = scratch / "trace.onnx"
    try:
        with quiet():
            if checkpoint.family.encoder_only:
                _trace_plainly(model, path, opset)
            else:
                constructor = _describe(checkpoint, task)
                export(model, constructor(_config(model)), path, opset=opset, disable_dynamic_axes_fix=True)
    except (OSError, ExportError):
        raise
    except Exception as error:  # torch and optimum raise many unrelated classes while they trace
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(
            f"{checkpoint.architecture} could not be traced: {reason}. Please report this with the model's name."
        ) from error
    traced = onnx.load(str(path))
    for leftover in scratch.iterdir():
        leftover.unlink()
    return _tidy(traced)


def _describe(checkpoint: Checkpoint, task: str) -> Any:
    from optimum.exporters.tasks import TasksManager

    try:
        return TasksManager.get_exporter_config_constructor(
            "onnx", model_type=checkpoint.model_type, task=task, library_name="transformers"
        )
    except (KeyError, ValueError) as error:
        raise ExportError(
            f"optimum cannot export {task} of model_type {checkpoint.model_type!r}; "
            "expected an architecture that it describes. Open an issue with the model's name."
        ) from error


def _trace_plainly(model: torch.nn.Module, path: Path, opset: int) -> None:
    """Trace the encoder half of an encoder-decoder, which optimum describes only together with its decoder."""
    import torch

    example = torch.ones((2, 16), dtype=torch.int64)
    axes = {0: "batch_size", 1: "sequence_length"}
    names = ["input_ids", "attention_mask"]
    with torch.no_grad():
        torch.onnx.export(
            model,
            (example, example),
            str(path),
            input_names=names,
            output_names=[HIDDEN],
            dynamic_axes=dict.fromkeys([*names, HIDDEN], axes),
            opset_version=opset,
            dynamo=False,
        )


def _config(model: torch.nn.Module) -> Any:
    return model.config


def _base_model(model: Any) -> torch.nn.Module:
    base: torch.nn.Module = model.base_model
    return base


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out what says where or how the graph was made: the same checkpoint gives the same bytes."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    graph.name = "embedge"
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    return model
