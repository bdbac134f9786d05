"""What graphs may hold: those of exports, and nothing that can run for ever, read other files or take any memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tests import bundles

from embedge import BundleError, EdgeModel, ParamsError, SessionError
from embedge._contents.graph import MOST_NODES, read_graph
from embedge._contents.wire import MalformedError, fields, numbers, text

onnx = pytest.importorskip("onnx")


def body(operator: str = "Identity", **attributes) -> object:
    from onnx import helper

    return helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "body", [], [])


def deep(levels: int) -> object:
    return body("If", then_branch=deep(levels - 1)) if levels else body()


def add(operator: str, domain: str = "", **attributes):
    def change(model) -> None:
        model.graph.node.append(
            onnx.helper.make_node(operator, ["input_ids"], ["unused"], domain=domain, **attributes)
        )

    return change


def add_einsum(model) -> None:
    inputs = ["input_ids"] * 4
    model.graph.node.append(
        onnx.helper.make_node("Einsum", inputs, ["unused"], equation="ab,cd,ef,gh->abcdefg")
    )


def add_sized(operator: str, *sizes: int, stated: str = "raw"):
    """A node of a constant of whole numbers, stated as bytes, as numbers, or by a node."""

    def change(model) -> None:
        tensor = onnx.helper.make_tensor(
            "sizes",
            7,
            [len(sizes)],
            np.int64(sizes).tobytes() if stated == "raw" else sizes,
            raw=stated == "raw",
        )
        if stated == "node":
            model.graph.node.append(onnx.helper.make_node("Constant", [], ["sizes"], value=tensor))
        else:
            model.graph.initializer.append(tensor)
        inputs = ["sizes"] if operator == "ConstantOfShape" else ["input_ids", "sizes"]
        model.graph.node.append(onnx.helper.make_node(operator, inputs, ["made"]))

    return change


def add_chain(operators: Sequence[str], times: int, *, stated: bool = True, **attributes: object):
    """The same operators over and over, upon hidden states; what axes they have is stated by a constant or not."""

    def change(model) -> None:
        axes = onnx.helper.make_tensor("first", 7, [1], [0])
        model.graph.initializer.append(axes)
        before, second = "last_hidden_state", {"Gather": ["input_ids"], "Add": ["last_hidden_state"]}
        for number, operator in enumerate(operators * times):
            more = second.get(operator, ["first"] if stated and operator != "ArgMax" else [])
            given = {} if operator in second or stated else attributes
            keep = {"keepdims": 0} if operator in ("ReduceSum", "ArgMax") else {}
            node = onnx.helper.make_node(operator, [before, *more], [f"link{number}"], **given, **keep)
            model.graph.node.append(node)
            before = f"link{number}"

    return change


def add_many(operator: str, size: int, times: int):
    def change(model) -> None:
        add_sized(operator, size)(model)
        for number in range(times):
            again = model.graph.node.add()
            again.CopyFrom(model.graph.node[-2])
            again.output[0] = f"made{number}"

    return change


def add_loop(rounds: int = 64, *more: str, count: int = 1, again: str = "", within: bool = False):
    """A loop of a stored number of rounds; `again` is another tensor of the number's name: a node's, or a constant."""

    def change(model) -> None:
        from onnx import helper

        held = body("Loop", body=body()) if within else body()
        if again == "constant":
            held.initializer.append(helper.make_tensor("rounds", 7, [], [1]))
        if again == "node":
            held.node[0].output[0] = "rounds"
        model.graph.initializer.append(helper.make_tensor("rounds", 7, [count], [rounds] * count))
        model.graph.node.append(helper.make_node("Loop", ["rounds", "", *more], ["unused"], body=held))

    return change


def add_function(model) -> None:
    model.functions.append(onnx.helper.make_function("own", "F", ["x"], ["y"], [], []))


def add_sparse(model) -> None:
    model.graph.sparse_initializer.add()


def sparse() -> object:
    return onnx.helper.make_sparse_tensor(
        onnx.helper.make_tensor("v", 1, [1], [1.0]), onnx.helper.make_tensor("i", 7, [1], [3]), [8]
    )


def sparse_body() -> object:
    graph = body()
    graph.sparse_initializer.append(sparse())
    return graph


def rename_input(model) -> None:
    model.graph.input[0].name = "secret"


def change_input_type(model) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 1


def input_of_sequences(model) -> None:
    kind = onnx.helper.make_tensor_sequence_value_info("input_ids", 7, None)
    model.graph.input[0].CopyFrom(kind)


def change_output_rank(model) -> None:
    for output in model.graph.output:
        output.type.tensor_type.shape.dim.add().dim_value = 3


def remove_outputs(model) -> None:
    del model.graph.output[:]


def constant_elsewhere(model) -> None:
    tensor = onnx.helper.make_tensor("t", 1, [2], [1.0, 2.0])
    tensor.data_location = 1
    del tensor.float_data[:]
    tensor.external_data.add(key="location", value="../secret")
    add("Constant", value=tensor)(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add("Loop", body=body()), "has a loop whose number of rounds is not stored"),
        (add("If", then_branch=body("Loop", body=body())), "has a loop whose number of rounds is not stored"),
        (add("Scan", body=body()), "has a graph within an operator"),
        (add_loop(4097), "has a loop of 4,097 rounds"),
        (add_loop(4, "input_ids"), "has a loop whose rounds hand something on"),
        (add_loop(4, within=True), "has a loop within a loop"),
        (add_loop(4, count=2), "has a loop whose number of rounds is not stored"),
        (add_loop(4, again="constant"), "has a loop whose number of rounds is not stored"),
        (add_loop(4, again="node"), "has a loop whose number of rounds is not stored"),
        (add("If", then_branch=body("RandomNormal")), "has an operator 'RandomNormal'"),
        (add("RandomNormalLike"), "has an operator 'RandomNormalLike'"),
        (add("Gelu", "com.stranger"), "has an operator 'Gelu' of the domain 'com.stranger'"),
        (
            add_sized("ConstantOfShape", 10**8, 4),
            "has an operator 'ConstantOfShape' that makes 4.0e\\+08 elements",
        ),
        (add_sized("Expand", 1 << 13, 1 << 12, stated="numbers"), "has an operator 'Expand' that makes"),
        (add_sized("Tile", 1, 1 << 60, stated="node"), "has an operator 'Tile' that makes"),
        (add_sized("Tile", 1, -(1 << 60), stated="numbers"), "has an operator 'Tile' that makes"),
        (add_sized("Expand", 1, 8), ""),
        (
            add_many("ConstantOfShape", 1 << 16, 100),
            "has an operator 'ConstantOfShape' that makes 4.3e\\+06 elements",
        ),
        (add_chain(["Gather"], 4), "has an operator 'Gather' whose result has 7 dimensions"),
        (add_chain(["Unsqueeze"], 4), "has an operator 'Unsqueeze' whose result has 7 dimensions"),
        (
            add("Unsqueeze", axes=[0, 1, 2, 3, 4]),
            "has an operator 'Unsqueeze' whose result has 7 dimensions",
        ),
        (add_einsum, "has an operator 'Einsum' whose result has 7 dimensions"),
        (add_chain(["Unsqueeze", "Squeeze", "Unsqueeze", "ReduceSum"], 50), ""),
        (add_chain(["Unsqueeze", "Add", "Squeeze"], 50), ""),
        (add_function, "has functions or training steps"),
        (add_sparse, "has sparse weights"),
        (add("Constant", sparse_value=sparse()), "has sparse weights"),
        (add("If", then_branch=sparse_body()), "has sparse weights"),
        (rename_input, "has an input 'secret' that is not in the manifest"),
        (change_input_type, "has an input 'input_ids' that is no int64 of rank 2"),
        (input_of_sequences, "has an input 'input_ids' that is no int64 of rank 2"),
        (change_output_rank, "has an output 'last_hidden_state' that is no float of rank 3"),
        (remove_outputs, "lacks the output 'last_hidden_state' of the manifest"),
        (constant_elsewhere, "has a constant in another file"),
        (add("Constant", value_string="text", value_strings=["a"]), ""),
        (add("Constant", value=onnx.helper.make_tensor("t", 8, [1], [b"text"])), "has constants of text"),
    ],
)
def test_what_no_export_writes_is_refused_before_onnxruntime_sees_it(tiny, change, words) -> None:
    folder = tiny()
    bundles.edit_graph(folder, change)
    if not words:
        EdgeModel(folder).close()
        return
    with pytest.raises(BundleError, match=f"onnx/model.onnx {words}.*open it with trust='any'"):
        EdgeModel(folder)


def test_whose_maker_is_trusted_may_hold_more(tiny) -> None:
    folder = tiny()
    bundles.edit_graph(folder, add("RandomNormalLike", dtype=1))
    with EdgeModel(folder, trust="any") as model:
        assert model.embed("good").numpy().shape == (1, 8)
    bundles.edit_graph(folder, add("Gelu", "com.stranger"))
    with pytest.raises(SessionError, match="cannot load model.onnx"):
        EdgeModel(folder, trust="any")
    with pytest.raises(ParamsError, match="trust='all' is not known; expected one of exported, any"):
        EdgeModel(folder, trust="all")


def test_a_bounded_loop_is_looked_into() -> None:
    model = onnx.ModelProto()
    add_loop(4096)(model)
    facts = read_graph(model.SerializeToString(), "model.onnx")
    assert (facts.operators, facts.problems) == ({":Loop": 1, ":Identity": 1}, ())


def test_branches_are_looked_into_and_not_without_end() -> None:
    model = onnx.ModelProto()
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=deep(7)))
    facts = read_graph(model.SerializeToString(), "model.onnx")
    assert (facts.operators, facts.problems) == ({":If": 8, ":Identity": 1}, ())
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=deep(8)))
    with pytest.raises(BundleError, match="branches within branches, more than 8 deep"):
        read_graph(model.SerializeToString(), "model.onnx")


def graph_with(*tensors, nodes=()) -> bytes:
    graph = onnx.helper.make_graph(nodes, "g", [], [], initializer=tensors)
    return onnx.helper.make_model(graph).SerializeToString()


def tensor(**changes):
    made = onnx.TensorProto(name="t", data_type=1, dims=[2], raw_data=bytes(8))
    for field, value in changes.items():
        made.ClearField(field)
        (getattr(made, field).extend if isinstance(value, list) else lambda v, f=field: setattr(made, f, v))(
            value
        )
    return made


def outside(**stated):
    made = tensor(raw_data=b"")
    made.ClearField("raw_data")
    made.data_location = 1
    for key, value in stated.items():
        made.external_data.add(key=key, value=value)
    return made


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it holds 0 graphs"),
        (graph_with() * 2, "it holds 2 graphs"),
        (b"\x3b", "it has a field of wire type 3"),
        (b"\x3a\xff\x01", "it ends within a field"),
        (b"\x3a\x80", "it ends within a number"),
        (b"\x38" + b"\xff" * 10, "a number has no end"),
        (b"\x38\x01", "a field holds a number in place of bytes"),
        (b"\x3a\x05\x0a\x03\x22\x01\xff", "a name is no UTF-8"),
        (graph_with(tensor(dims=[1 << 41])), "has a shape that no tensor has"),
        (graph_with(tensor(dims=[1] * 17)), "has a shape that no tensor has"),
        (graph_with(tensor(dims=[1 << 30])), "has 8 bytes, and its shape needs 4294967296"),
        (graph_with(tensor(data_type=99)), "is of an unknown type 99"),
        (graph_with(tensor(raw_data=b"", dims=[0])), ""),
        (
            graph_with(onnx.TensorProto(name="t", data_type=1, dims=[99], float_data=[1.0])),
            "has fewer values",
        ),
        (graph_with(onnx.TensorProto(name="t", data_type=7, dims=[2], int64_data=[1, 2])), ""),
        (graph_with(outside(location="a", offset="-1")), "has 8 bytes at -1"),
        (graph_with(outside(location="a", length="4")), "has 4 bytes at 0, and its shape needs 8"),
        (graph_with(outside(location="a", length="x")), "lies at no number of a file"),
        (graph_with(nodes=[onnx.NodeProto()] * (MOST_NODES + 1)), "it has more than 50000 nodes"),
        (
            graph_with(*[onnx.TensorProto(data_type=1, dims=[0])] * (MOST_NODES + 1)),
            "more than 50000 tensors",
        ),
    ],
)
def test_bytes_that_are_no_graph_of_their_size(content, words) -> None:
    if words:
        with pytest.raises(BundleError, match=f"m.onnx is no ONNX graph: .*{words}.*Export the model again"):
            read_graph(content, "m.onnx")
    else:
        read_graph(content, "m.onnx")


def test_what_onnx_writes_is_read_as_it_is_meant() -> None:
    from onnx import helper

    value = helper.make_tensor_value_info("x", 7, ["batch", 3])
    graph = helper.make_graph(
        [
            helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft", alpha=1.5),
            helper.make_node("Relu", [], []),
        ],
        "g",
        [value, helper.make_tensor_value_info("w", 1, [2])],
        [helper.make_tensor_value_info("y", 1, None)],
        initializer=[tensor(name="w"), outside(location="data", offset="4096", length="8")],
    )
    facts = read_graph(helper.make_model(graph).SerializeToString(), "m.onnx")
    assert {name: (info.dtype, info.rank) for name, info in facts.inputs.items()} == {"x": (7, 2)}
    assert {name: (info.dtype, info.rank) for name, info in facts.outputs.items()} == {"y": (1, None)}
    assert [(each.name, each.location, each.offset, each.size_bytes) for each in facts.outside] == [
        ("t", "data", 4096, 8)
    ]
    assert facts.operators == {"com.microsoft:Gelu": 1, ":Relu": 1}
    assert facts.problems == ()


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8, np.float32])
def test_weights_of_every_type_beside_a_graph(tiny, dtype) -> None:
    """A cast to the type and back is the only change, so the answer is that of the same graph in one file."""
    from onnx import helper, numpy_helper

    def cast(model) -> None:
        weight = next(each for each in model.graph.initializer if len(each.dims) == 2 and each.dims[0] > 20)
        values = np.nan_to_num(numpy_helper.to_array(weight)).astype(dtype)
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values, f"{name}_stored"))
        model.graph.node.insert(0, helper.make_node("Cast", [f"{name}_stored"], [name], to=1))

    whole, moved = tiny(), tiny()
    for folder in (whole, moved):
        bundles.edit_graph(folder, cast)
    bundles.move_weights_outside(moved)
    with EdgeModel(whole, device="cpu") as one, EdgeModel(moved, device="cpu") as other:
        np.testing.assert_array_equal(one.embed("the river").numpy(), other.embed("the river").numpy())


def test_a_type_that_cannot_lie_outside(tiny) -> None:
    folder = tiny()
    bundles.move_weights_outside(folder)

    def as_complex(model) -> None:
        weight = next(each for each in model.graph.initializer if each.external_data)
        stated = {entry.key: entry for entry in weight.external_data}
        weight.data_type, size = 15, int(stated["length"].value)
        del weight.dims[:]
        weight.dims.append(size // 16)

    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    as_complex(model)
    path.write_bytes(model.SerializeToString())
    bundles.rewrite(folder)
    with pytest.raises(BundleError, match="its type 15 cannot lie outside of a graph"):
        EdgeModel(folder)


def test_fields_by_themselves() -> None:
    assert numbers(memoryview(b"\x01\xac\x02")) == [1, 300]
    assert list(fields(memoryview(b"\x0d\x00\x00\x80\x3f"))) == [(1, memoryview(b"\x00\x00\x80\x3f"))]
    with pytest.raises(MalformedError):
        text(3)
