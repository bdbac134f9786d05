"""An ONNX file made by someone else: read, checked against the checkpoint's facts, and given embedge's names.

Known are the Hub's layout and the names of optimum, sentence-transformers and transformers.js.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedge.errors import ExportError
from embedge.manifest import GraphSpec
from embedge_export.graph.given_form import check_inputs, choose_output, shape
from embedge_export.graph.outputs import LOGITS, POOLED, attach_heads
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.weights import LoadedWeights

if TYPE_CHECKING:
    import onnx

_OLDEST_OPSET = 13
_HEADS_OPSET = 18


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with the weights that lie beside it.

    Raises:
        ExportError: it is no ONNX file, or a file of its weights is missing, cut short or elsewhere.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    if not path.is_file():
        raise ExportError(f"{path} does not exist; expected an ONNX file, such as onnx/model.onnx")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors have no common base
        raise ExportError(f"{path} is no ONNX file: {error}. Copy it again.") from error
    if not model.graph.node:
        raise ExportError(f"{path} is no ONNX file: it holds no graph. Copy it again.")
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external({entry.key: entry.value for entry in tensor.external_data}, path)
    load_external_data_for_model(model, str(path.parent))
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    weights = {tensor.name for tensor in model.graph.initializer}
    real = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(real)
    return model


def adapt(
    model: onnx.ModelProto,
    checkpoint: Checkpoint,
    weights: LoadedWeights,
    path: Path,
    output_name: str | None = None,
) -> tuple[onnx.ModelProto, GraphSpec]:
    """Check a graph against the checkpoint, give its outputs embedge's names, and attach what it lacks.

    Args:
        model: the graph; it may be changed.
        checkpoint: facts of the files beside it.
        weights: of its Dense modules.
        path: for messages.
        output_name: of the output to read, where its name is none that is known.

    Returns:
        The graph, and what is where in it.

    Raises:
        ExportError: an input or output that embedge does not know, or of another type or shape.
    """
    from embedge_export.graph.traced import tidy

    check_inputs(model, path)
    model = _raise_opset(model, path)
    inputs = tuple(value.name for value in model.graph.input)
    output = choose_output(model, checkpoint, path, output_name)
    _keep(model, output.value, output.name)
    if output.name == LOGITS and checkpoint.head is not None:
        tokens = checkpoint.facts.outputs == "token_logits"
        spec = GraphSpec(inputs=inputs, **{"token" if tokens else "pooled": LOGITS})
    elif output.name == POOLED:
        spec = GraphSpec(inputs=inputs, pooled=POOLED)
    else:
        spec = attach_heads(model, checkpoint, weights)
    return tidy(model), spec


def _check_external(entries: dict[str, str], path: Path) -> None:
    location = entries.get("location", "")
    file = path.parent / location
    if not location or Path(location).is_absolute() or ".." in Path(location).parts or file.is_symlink():
        raise ExportError(
            f"{path.name} keeps weights in {location!r}; expected a plain file beside it. Copy the file again."
        )
    if not file.is_file():
        raise ExportError(
            f"{path.name} keeps weights in {location}, which is missing; expected it beside {path.name}. "
            "Copy both files, under the names they had."
        )
    end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
    if file.stat().st_size < end:
        raise ExportError(
            f"{location} has {file.stat().st_size} bytes; {path.name} reads up to byte {end}. Copy it again."
        )


def _keep(model: onnx.ModelProto, output: Any, name: str) -> None:
    """Make `output` the graph's only one, under another name and as float32."""
    import onnx
    from onnx import helper

    old = str(output.name)
    kind = output.type.tensor_type.elem_type
    axes = ["batch_size", "sequence_length", *shape(output)[2:]]
    if len(shape(output)) == 2:
        axes = ["batch_size", shape(output)[1]]
    del model.graph.output[:]
    if kind != onnx.TensorProto.FLOAT or old != name:
        _free(model, name)
        cast = {"to": onnx.TensorProto.FLOAT}
        model.graph.node.append(helper.make_node("Cast", [old], [name], name="/embedge/output", **cast))
    model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, axes))
    _prune(model)


def _prune(model: onnx.ModelProto) -> None:
    """Drop what the kept output does not need: poolers, other heads, and their weights."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):  # which are in the order of computation
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_read_by(node))
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    for field, left in ((model.graph.node, kept[::-1]), (model.graph.initializer, weights)):
        copies = [type(part).FromString(part.SerializeToString()) for part in left]
        del field[:]
        field.extend(copies)
    del model.graph.value_info[:]


def _read_by(node: Any) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _read_by(inner)
    return names


def _free(model: onnx.ModelProto, name: str) -> None:
    """Rename a value inside of the graph whose name is wanted for an output."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, given in enumerate(names):
                if given == name:
                    names[index] = f"{name}/inner"


def _raise_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    from onnx import version_converter

    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset >= _OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, _HEADS_OPSET)
    except Exception as error:  # the converter is C++ and raises RuntimeError and more
        raise ExportError(
            f"{path.name} has opset {opset}, and onnx cannot raise it: {error}. "
            f"Export the model again with opset {_OLDEST_OPSET} or later."
        ) from error
