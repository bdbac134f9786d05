"""Tables that sessions of a graph share: which weights they are, and that the numbers stay."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.soak import memory

from embedge._contents.graph import read_graph
from embedge._contents.graphs import PinnedGraph
from embedge._contents.pinned import PinnedFile
from embedge._sessions.devices import Device
from embedge._sessions.session import Session
from embedge._sessions.shared_tables import SharedTables
from embedge.errors import IntegrityError

CPU = Device(kind="cpu")


def looked_up(*nodes, outputs=("y",)) -> frozenset[str]:
    weights = [
        numpy_helper.from_array(np.ones((3, 4), dtype=np.float32), name) for name in ("table", "other")
    ]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 2])
    graph = helper.make_graph(list(nodes), "g", [ids], made, initializer=weights)
    return read_graph(helper.make_model(graph).SerializeToString(), "m.onnx").looked_up


GATHER = helper.make_node("Gather", ["table", "ids"], ["y"])


@pytest.mark.parametrize(
    ("nodes", "outputs", "expected"),
    [
        ([GATHER], ["y"], {"table"}),
        ([GATHER, helper.make_node("Gather", ["other", "ids"], ["z"])], ["y"], {"table", "other"}),
        ([GATHER, helper.make_node("MatMul", ["y", "table"], ["z"])], ["z"], set()),
        ([helper.make_node("Gather", ["other", "table"], ["y"])], ["y"], {"other"}),
        ([helper.make_node("Gather", ["table", "ids"], ["y"], domain="com.microsoft")], ["y"], set()),
        ([GATHER], ["y", "table"], set()),
    ],
)
def test_a_table_is_what_rows_are_gathered_from_and_nothing_else_reads(nodes, outputs, expected) -> None:
    assert looked_up(*nodes, outputs=outputs) == expected


def test_what_a_branch_gives_back_is_read() -> None:
    inner = helper.make_graph([], "b", [], [helper.make_tensor_value_info("table", TensorProto.FLOAT, None)])
    either = helper.make_node("If", ["ids"], ["z"], then_branch=inner, else_branch=inner)
    assert looked_up(GATHER, either, outputs=["z"]) == frozenset()


def pinned(folder, words: int = 4096, dtype: int = TensorProto.FLOAT) -> PinnedGraph:
    """A graph that gathers rows of a table of 64 and multiplies them, both in one file beside it."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(words, 64)).astype(np.float32)
    # the upper half of a float32 is a bfloat16
    values = numbers if dtype == TensorProto.FLOAT else (numbers.view(np.uint32) >> 16).astype(np.uint16)
    table = helper.make_tensor("table", dtype, values.shape, values.tobytes(), raw=True)
    matrix = rng.normal(size=(64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["rows"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["numbers", "matrix"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "m"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m", 64])],
        initializer=[numpy_helper.from_array(matrix, "matrix"), table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "onnx").mkdir()
    onnx.save(
        model,
        folder / "onnx" / "m.onnx",
        save_as_external_data=True,
        location="m.onnx_data",
        size_threshold=0,
    )
    return opened(folder)


def opened(folder) -> PinnedGraph:
    names = ("onnx/m.onnx", "onnx/m.onnx_data")
    whole, outside = (PinnedFile(folder, name, **stated(folder / name)) for name in names)
    return PinnedGraph(whole, {names[1]: outside})


def stated(file) -> dict:
    content = file.read_bytes()
    return {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_only_a_large_table_lies_apart(tmp_path) -> None:
    for name, words, apart in (("large", 4096, {"table"}), ("small", 4095, set())):
        (tmp_path / name).mkdir()
        graph = pinned(tmp_path / name, words)
        with graph.weights(known_tables=()) as weights:
            assert {weight.name for weight in weights if weight.apart} == apart
        with graph.weights(known_tables=("table", "matrix")) as weights:
            assert {weight.name for weight in weights} == {"table", "matrix"} - apart
        with graph.weights() as weights:
            assert not any(weight.apart for weight in weights)


def test_sessions_have_the_same_table_and_the_numbers_of_their_own(tmp_path) -> None:
    graph = pinned(tmp_path)
    tables = SharedTables()
    ids = {"input_ids": np.array([[0, 7, 4095]])}
    own = Session(graph, device=CPU, threads=1).run("y", ids)
    first, second = (Session(graph, device=CPU, threads=n, tables=tables) for n in (2, 1))
    np.testing.assert_array_equal(first.run("y", ids), own)
    np.testing.assert_array_equal(second.run("y", ids), own)
    (table,) = tables.kept().values()
    # onnxruntime has no copy: what is written there is what it reads
    table[7] = 0
    assert not first.run("y", ids)[0, 1].any()
    assert not second.run("y", ids)[0, 1].any()


def test_the_first_copy_of_a_table_stays() -> None:
    tables = SharedTables()
    first, second = np.ones(3), np.ones(3)
    assert tables.keep({"a": first})["a"] is first
    assert tables.keep({"a": second, "b": second})["a"] is first
    assert set(tables.kept()) == {"a", "b"}


def test_a_table_of_a_type_that_numpy_has_not_is_a_weight_as_all_others(tmp_path) -> None:
    graph = pinned(tmp_path, words=1 << 14, dtype=TensorProto.BFLOAT16)
    tables = SharedTables()
    ids = {"input_ids": np.array([[5]])}
    own = Session(graph, device=CPU, threads=1).run("y", ids)
    np.testing.assert_array_equal(Session(graph, device=CPU, threads=1, tables=tables).run("y", ids), own)
    assert tables.kept() == {}


def two_sessions(folder) -> float:
    """MiB at most beside what the process had."""
    graph, tables = opened(folder), SharedTables()
    before = memory.begin()
    _made = [Session(graph, device=CPU, threads=threads, tables=tables) for threads in (2, 1)]
    return memory.mib("VmHWM") - before


@pytest.mark.skipif(sys.platform != "linux", reason="needs a system that tells of a process's own peak")
def test_a_table_is_in_memory_once_while_sessions_are_opened(tmp_path) -> None:
    words = 1 << 19
    pinned(tmp_path, words)
    assert memory.apart(two_sessions, tmp_path) * 2**20 < 1.3 * words * 64 * 4


def alter_table(folder) -> None:
    path = folder / "onnx" / "m.onnx_data"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as file:
        file.write(content)


def test_an_altered_table_is_refused(tmp_path) -> None:
    graph = pinned(tmp_path)
    alter_table(tmp_path)
    tables = SharedTables()
    with pytest.raises(IntegrityError, match="was altered"):
        Session(graph, device=CPU, threads=1, tables=tables)
    assert tables.kept() == {}


def test_a_table_that_is_altered_before_a_second_session_is_refused(tmp_path) -> None:
    graph, tables = pinned(tmp_path), SharedTables()
    Session(graph, device=CPU, threads=2, tables=tables)
    alter_table(tmp_path)
    with pytest.raises(IntegrityError, match="was altered"):
        Session(graph, device=CPU, threads=1, tables=tables)
