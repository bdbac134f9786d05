"""What a graph gives is held against the manifest: numbers, a row for each text or token, one width."""

from __future__ import annotations

import numpy as np
import pytest
from tests import bundles

from embedge import EdgeModel, SessionError, ShapeError
from embedge._rows.gathering import gather

TEXTS = ["the river is cold", "good"]


def through(operator: str, output: str, elem_type: int = 1, *, constants=(), **attributes):
    """Send an output through another operator."""
    from onnx import helper

    def change(model) -> None:
        for node in model.graph.node:
            node.output[:] = [f"{name}_before" if name == output else name for name in node.output]
            node.input[:] = [f"{name}_before" if name == output else name for name in node.input]
        inputs = [f"{output}_before", *(tensor.name for tensor in constants)]
        model.graph.initializer.extend(constants)
        model.graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        stated = next(each for each in model.graph.output if each.name == output)
        stated.type.tensor_type.elem_type = elem_type
        stated.type.tensor_type.ClearField("shape")

    return change


def numbers(name: str, *values: int):
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def sliced(output: str, axis: int):
    ends = (numbers("starts", 0), numbers("ends", 1), numbers("axes", axis))
    return through("Slice", output, constants=ends)


@pytest.mark.parametrize(
    ("change", "task", "words"),
    [
        (
            sliced("sentence_embedding", 0),
            "embed",
            r"is float32 of shape \(1, 8\); expected \(2, …\) of floats",
        ),
        (sliced("sentence_embedding", 1), "embed", r"is float32 of shape \(2, 1\); expected \(2, 8\)"),
        (through("Cast", "sentence_embedding", 9, to=9), "embed", r"is bool of shape \(2, 8\)"),
        (through("Cast", "sentence_embedding", 8, to=8), "embed", r"is object of shape \(2, 8\)"),
        (sliced("last_hidden_state", 1), "token_embed", r"of shape \(2, 1, 8\); expected \(2, 6, size\)"),
    ],
)
def test_other_shapes_and_types_than_the_manifest_states(tiny, change, task, words) -> None:
    folder = tiny()
    bundles.edit_graph(folder, change)
    with EdgeModel(folder, device="cpu", threads=1, trust="any") as model:
        with pytest.raises(SessionError, match=words):
            model.encode(TEXTS, pooling_task=task)


def test_fewer_hidden_states_than_tokens(tiny) -> None:
    from embedge import PoolerConfig

    folder = tiny()
    bundles.edit_graph(folder, sliced("last_hidden_state", 1))
    with EdgeModel(
        folder, device="cpu", pooler_config=PoolerConfig(pooling_type="CLS"), trust="any"
    ) as model:
        with pytest.raises(
            ShapeError, match=r"hidden states of shape \(2, 1, 8\) for tokens of shape \(2, 6\)"
        ):
            model.embed(TEXTS)


def test_fewer_columns_than_labels(tiny) -> None:
    folder = tiny("classify")
    bundles.edit_graph(folder, sliced("logits", 1))
    with (
        EdgeModel(folder, device="cpu") as model,
        pytest.raises(SessionError, match=r"of shape \(2, 1\); expected"),
    ):
        model.classify(TEXTS)


def test_batches_of_different_widths() -> None:
    def batches():
        yield np.array([0]), np.ones((1, 3), dtype=np.float32)
        yield np.array([1]), np.ones((1, 4), dtype=np.float32)

    with pytest.raises(SessionError, match="rows of 4 components after rows of 3"):
        gather(batches(), 2, 3, lambda _: None)
