"""torch to ONNX: through optimum where it describes the architecture, by torch.onnx itself where it does not."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedge.errors import ExportError
from embedge_export.graph.outputs import HIDDEN, LOGITS, traces_base
from embedge_export.graph.plain_trace import trace_plainly
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.torch_model import quiet

if TYPE_CHECKING:
    import onnx
    import torch


def trace(model: torch.nn.Module, checkpoint: Checkpoint, opset: int, scratch: Path) -> onnx.ModelProto:
    """Trace a loaded model to a graph that holds its weights.

    optimum's own validation is left out: verify/numbers.py compares through the SDK, on real texts, and fails closed.

    Args:
        model: what `load_model` returned.
        checkpoint: its facts.
        opset: version of the ONNX operator set.
        scratch: folder for a temporary file of the graph's size.

    Returns:
        A graph with inputs named as in the manifest and one output, last_hidden_state or logits.

    Raises:
        ExportError: tracing failed.
    """
    import onnx

    task = _task(checkpoint)
    if traces_base(checkpoint):
        model = _base_model(model)
    path = scratch / "trace.onnx"
    try:
        with quiet():
            constructor = _optimum_config(checkpoint, task)
            if constructor is None:
                output = HIDDEN if task == "feature-extraction" else LOGITS
                trace_plainly(model, output, path, opset)
            else:
                from optimum.exporters.onnx import export

                export(model, constructor(_config(model)), path, opset=opset, disable_dynamic_axes_fix=True)
    except (OSError, ExportError):
        raise
    except Exception as error:  # torch and optimum raise many unrelated classes while they trace
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"{checkpoint.architecture} could not be traced: {reason}. {_advice()}") from error
    traced = onnx.load(str(path))
    for leftover in scratch.iterdir():
        leftover.unlink()
    return tidy(traced)


def described_by_optimum(checkpoint: Checkpoint) -> bool:
    """Whether optimum traces a checkpoint; else torch.onnx does it without."""
    return _optimum_config(checkpoint, _task(checkpoint)) is not None


def _advice() -> str:
    report = "Please report this with the model's name."
    if find_spec("optimum") is not None:
        return report
    return (
        f"optimum may know how: pip install 'embedge[export-optimum]' in an environment of its own. {report}"
    )


def _task(checkpoint: Checkpoint) -> str:
    return "feature-extraction" if traces_base(checkpoint) else checkpoint.facts.trace_task


def _optimum_config(checkpoint: Checkpoint, task: str) -> Any:
    """What optimum knows of an architecture; None where it has none that fits."""
    try:
        import optimum.exporters.onnx.model_configs  # noqa: F401
        from optimum.exporters.tasks import TasksManager
    except ImportError:
        return None

    # it knows encoder-decoders only as a whole, and code of a checkpoint only by a name that may mean something else
    if checkpoint.family.encoder_only or checkpoint.code:
        return None
    try:
        return TasksManager.get_exporter_config_constructor(
            "onnx", model_type=checkpoint.model_type, task=task, library_name="transformers"
        )
    except (KeyError, ValueError):
        return None


def _config(model: torch.nn.Module) -> Any:
    return model.config


def _base_model(model: Any) -> torch.nn.Module:
    base: torch.nn.Module = model.base_model
    return base


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
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
