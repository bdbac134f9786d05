"""Cases that change a graph: its operators, attributes, weights, inputs and outputs, and its bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.fuzz.bundles import GRAPH_FILE
from tests.fuzz.mutations import bytes_changed
from tests.fuzz.places import Place

_OPERATORS = (
    *(
        "Loop",
        "Scan",
        "If",
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "RandomNormal",
        "Pad",
        "Resize",
        "OneHot",
    ),
    *(
        "MatMul",
        "Add",
        "Gather",
        "Reshape",
        "Identity",
        "Softmax",
        "NonZero",
        "CumSum",
        "Einsum",
        "Trilu",
        "Cast",
    ),
    *(
        "LayerNormalization",
        "FusedGelu",
        "SkipLayerNormalization",
        "BeamSearch",
        "StringNormalizer",
        "Nonsense",
    ),
)
_SIZES = (0, 1, -1, 2, 1000, 100_000, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))


class Graphs:
    """onnx/model.onnx, its hashes made to fit."""

    def __init__(self, scratch: Path) -> None:
        import onnx

        self._place = Place(scratch)
        self._sound = (self._place.sound / GRAPH_FILE).read_bytes()
        self._model = onnx.load_model_from_string(self._sound)

    def run(self, index: int, rng: random.Random) -> None:
        import onnx

        if rng.randrange(4):
            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            for _ in range(rng.choice([1, 1, 2, 4])):
                rng.choice(_CHANGES)(model, rng)
            content = model.SerializeToString()
        else:
            content = bytes_changed(self._sound, rng)
        try:
            self._place.write(GRAPH_FILE, content)
            self._place.sign()
            self._place.check_numbers()
        finally:
            self._place.restore()


def _operator(model: Any, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(_OPERATORS)


def _domain(model: Any, rng: random.Random) -> None:
    rng.choice(model.graph.node).domain = rng.choice(["ai.onnx", "com.microsoft", "ai.onnx.ml", "mine"])


def _attribute(model: Any, rng: random.Random) -> None:
    from onnx import helper

    node = rng.choice(model.graph.node)
    name = rng.choice(
        [*(each.name for each in node.attribute), "axis", "to", "keepdims", "axes", "shape", "body"]
    )
    some: tuple[Any, ...] = (rng.choice(_SIZES), 0.5, "text", [rng.choice(_SIZES)] * 3, [1.0], ["a"])
    rest = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend([*rest, helper.make_attribute(name, rng.choice(some))])


def _wire(model: Any, rng: random.Random) -> None:
    """A node takes another value, perhaps one that it makes itself."""
    node = rng.choice([each for each in model.graph.node if each.input] or model.graph.node)
    names = [name for each in model.graph.node for name in each.output]
    names += [each.name for each in (*model.graph.initializer, *model.graph.input)]
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*names, "nowhere", ""])


def _remove(model: Any, rng: random.Random) -> None:
    graph = model.graph
    what = rng.choice([graph.node, graph.initializer, graph.input, graph.output])
    if what:
        del what[rng.randrange(len(what))]


def _repeat(model: Any, rng: random.Random) -> None:
    """A node often, under other names, each upon the one before."""
    node = rng.choice(model.graph.node)
    if not node.output or not node.input:
        return
    before = node.output[0]
    for number in range(rng.choice([1, 10, 2000])):
        new = model.graph.node.add()
        new.CopyFrom(node)
        new.name = f"{node.name}/{number}"
        del new.output[:]
        new.output.append(f"again{number}")
        new.input[0] = before
        before = f"again{number}"


def _grow(model: Any, rng: random.Random) -> None:
    """A tensor that is made of few bytes and takes many."""
    from onnx import helper

    name, size = f"shape{rng.random()}", rng.choice([10**3, 10**6, 10**8, 10**10])
    model.graph.initializer.append(helper.make_tensor(name, 7, [2], [size, rng.choice([1, 8, 1000])]))
    made = f"big{rng.random()}"
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", [name], [made]))
    if rng.random() < 0.5:
        model.graph.node.append(helper.make_node("ReduceSum", [made], [f"{made}/sum"]))
        target = rng.choice([each for each in model.graph.node if len(each.input) > 1])
        target.input[1] = f"{made}/sum"


def _weight(model: Any, rng: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    way = rng.randrange(5)
    if way == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_SIZES)
    elif way == 1:
        tensor.data_type = rng.randrange(-1, 28)
    elif way == 2:
        tensor.raw_data = bytes_changed(tensor.raw_data, rng)
    elif way == 3:
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key, entry.value = (
            "location",
            rng.choice(["/etc/passwd", "../sound/onnx/model.onnx", "model.onnx", "x"]),
        )
    else:
        tensor.name = rng.choice([each.name for each in model.graph.initializer])


def _declaration(model: Any, rng: random.Random) -> None:
    infos = [*model.graph.input, *model.graph.output]
    if not infos:
        return
    info = rng.choice(infos)
    tensor = info.type.tensor_type
    way = rng.randrange(4)
    if way == 0:
        tensor.elem_type = rng.randrange(0, 24)
    elif way == 1 and tensor.shape.dim:
        tensor.shape.dim[rng.randrange(len(tensor.shape.dim))].dim_value = rng.choice(_SIZES)
    elif way == 2:
        tensor.shape.dim.add().dim_value = rng.choice(_SIZES)
    else:
        info.name = rng.choice([*(each.name for each in infos), "other"])


def _versions(model: Any, rng: random.Random) -> None:
    model.ir_version = rng.choice([0, 3, 99, 2**40])
    if model.opset_import:
        model.opset_import[0].version = rng.choice([0, 1, 7, 13, 21, 99, 2**40])


_CHANGES = (
    *(_operator, _domain, _attribute, _attribute, _wire, _wire, _remove, _repeat, _grow, _weight, _weight),
    *(_declaration, _versions),
)
