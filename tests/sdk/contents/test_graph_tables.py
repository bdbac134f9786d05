"""A graph's bytes with tables among the inputs: nothing else changes, and ONNX takes them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from embedge._contents.graph import read_graph
from embedge._contents.graph_tables import with_inputs
from embedge._contents.wire import field, fields

WORDS = np.ones((3, 4), dtype=np.float32)


def model(*, table=WORDS, listed: bool = False, ir_version: int = 9) -> onnx.ModelProto:
    """Rows of "table" plus "other", with all that a file may state."""
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    weights = [
        numpy_helper.from_array(array, name) for name, array in (("other", WORDS[:1]), ("table", table))
    ]
    stated = helper.make_tensor_value_info("table", weights[1].data_type, table.shape)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="gather", axis=0),
            helper.make_node("Cast", ["rows"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["numbers", "other"], ["y"]),
        ],
        "g",
        [ids, stated] if listed else [ids],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        initializer=weights,
        doc_string="é",
        value_info=[helper.make_tensor_value_info("rows", weights[1].data_type, ["n", 4])],
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=ir_version,
        producer_name="p",
        model_version=1 << 40,
    )
    helper.set_model_props(made, {"a": "b"})
    return made


@pytest.mark.parametrize("dtype", ["f4", "f2", "u1", "i1"])
def test_a_table_becomes_an_input_and_nothing_else_changes(dtype) -> None:
    table = (np.arange(12) % 7).astype(dtype).reshape(3, 4)
    given = model(table=table)
    made = onnx.ModelProto.FromString(with_inputs(given.SerializeToString(), {"table": table}))
    onnx.checker.check_model(made, full_check=True)
    expected = helper.make_tensor_value_info("table", given.graph.initializer[1].data_type, [3, 4])
    assert made.graph.input[-1] == expected
    made.graph.input.pop()
    given.graph.initializer.pop()
    assert made == given


def test_what_a_file_lists_as_an_input_already_is_listed_once() -> None:
    given = model(listed=True, ir_version=3)
    made = onnx.ModelProto.FromString(with_inputs(given.SerializeToString(), {"table": WORDS}))
    assert [each.name for each in made.graph.input] == ["ids", "table"]
    assert [each.name for each in made.graph.initializer] == ["other"]


def test_without_tables_the_bytes_say_the_same() -> None:
    given = model()
    assert onnx.ModelProto.FromString(with_inputs(given.SerializeToString(), {})) == given


def test_the_new_input_is_read_as_one() -> None:
    content = with_inputs(model().SerializeToString(), {"table": WORDS})
    facts = read_graph(content, "m.onnx")
    assert (facts.inputs["table"].dtype, facts.inputs["table"].rank) == (TensorProto.FLOAT, 2)
    assert facts.problems == ()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 1 << 40, (1 << 64) - 1, b"", b"x" * 127, b"x" * 128])
@pytest.mark.parametrize("number", [1, 15, 16, 2047])
def test_a_written_field_is_read_as_it_was(number, value) -> None:
    assert list(fields(memoryview(field(number, value)))) == [(number, value)]
