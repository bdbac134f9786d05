"""A graph in the making: nodes, constants, and weights that are only read when they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embedge_export.families.structure import Array, Load

if TYPE_CHECKING:
    import onnx

OPSET = 21
CONTRIB = "com.microsoft"
_IR_VERSION = 10
MOST_ROUNDS = 4096
"""Of a loop in a bundle's graph; see embedge._contents.graph_loops."""


class Canvas:
    """Collects a graph's parts under names of their own; equal constants and weights are kept once.

    Args:
        opset: version of the ONNX operator set.
        constants: what constants are named after.
    """

    def __init__(self, opset: int = OPSET, constants: str = "constant") -> None:
        self._opset = opset
        self._named_after = constants
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, tuple[tuple[int, ...], np.dtype[Any], Load]] = {}
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], str] = {}
        self._counts: dict[str, int] = {}
        self._scope = ""

    def scope(self, name: str) -> None:
        """Name what follows, e.g. "layers.3.attention"."""
        self._scope = name

    @property
    def scope_name(self) -> str:
        """The name that follows now."""
        return self._scope

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        return self.ops(kind, *inputs, domain=domain, **attributes)[0]

    def contrib(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node of onnxruntime's own operator set."""
        return self.ops(kind, *inputs, domain=CONTRIB, **attributes)[0]

    def ops(
        self,
        kind: str,
        *inputs: str,
        domain: str = "",
        outputs: int = 1,
        unused: Sequence[int] = (),
        **attributes: Any,
    ) -> list[str]:
        """Append a node and return the names of its outputs; "" for those that are not used."""
        from onnx import helper

        stem = f"{self._scope}/{kind}"
        count = self._counts[stem] = self._counts.get(stem, 0) + 1
        name = f"{stem}_{count}" if count > 1 else stem
        results = ["" if index in unused else f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, list(inputs), results, name=name, domain=domain, **attributes)
        )
        return results

    def branch(self) -> Canvas:
        """A canvas for nodes that only run when they are chosen; its weights and constants are this one's."""
        made = Canvas(self._opset, self._named_after)
        made.weights, made._constants = self.weights, self._constants
        return made

    def repeat(self, name: str, emit: Callable[[Canvas, str], tuple[str, str]]) -> str:
        """Append a loop; its output is what the rounds give, stacked.

        Args:
            name: of the loop, after the scope's.
            emit: emits a round, given its canvas and its number, an int64 scalar; returns whether another round
                follows, a bool scalar, and the round's result, float32.
        """
        from onnx import TensorProto, helper

        body = self.branch()
        body.scope(f"{self.scope_name}.{name}")
        number, going_on = f"{body.scope_name}/number", f"{body.scope_name}/going_on"
        further, result = emit(body, number)
        graph = helper.make_graph(
            body.nodes,
            name,
            [
                helper.make_tensor_value_info(number, TensorProto.INT64, []),
                helper.make_tensor_value_info(going_on, TensorProto.BOOL, []),
            ],
            [
                helper.make_tensor_value_info(further, TensorProto.BOOL, []),
                helper.make_tensor_value_info(result, TensorProto.FLOAT, None),
            ],
        )
        # a condition that is left out is lost where onnxruntime puts a branch in place of its choice
        return self.op("Loop", self.constant(MOST_ROUNDS), self.constant(True, np.bool_), body=graph)

    def choose(
        self,
        condition: str,
        then: tuple[Canvas, Sequence[str]],
        otherwise: tuple[Canvas, Sequence[str]],
        kind: int,
    ) -> list[str]:
        """Append a node that runs one of two branches.

        Args:
            condition: name of a bool scalar.
            then: nodes, and the names of their results.
            otherwise: likewise, as many.
            kind: ONNX element type of all results.

        Returns:
            The names of the results.
        """
        from onnx import helper

        graphs = [
            helper.make_graph(
                part.nodes,
                name,
                [],
                [helper.make_tensor_value_info(result, kind, None) for result in results],
            )
            for name, (part, results) in (("then", then), ("otherwise", otherwise))
        ]
        return self.ops("If", condition, outputs=len(then[1]), then_branch=graphs[0], else_branch=graphs[1])

    def rename_output(self, old: str, new: str) -> str:
        """Call the output of the last node that gave `old` by another name."""
        for node in reversed(self.nodes):
            for index, name in enumerate(node.output):
                if name == old:
                    node.output[index] = new
                    return new
        raise KeyError(old)

    def constant(self, value: Any, dtype: npt.DTypeLike = np.int64) -> str:
        """A small constant."""
        array = np.asarray(value, dtype, order="C")
        key = (array.tobytes(), array.dtype.str, array.shape)
        if key not in self._constants:
            name = self._constants[key] = f"{self._named_after}.{len(self._constants)}"
            self.weights[name] = (array.shape, array.dtype, lambda: array)
        return self._constants[key]

    def weight(self, name: str, shape: Sequence[int], load: Load, dtype: npt.DTypeLike = np.float32) -> str:
        """A weight, read by `load` when the graph is written; the same name is the same weight."""
        if name not in self.weights:
            self.weights[name] = (tuple(shape), np.dtype(dtype), load)
        return name

    def model(self, inputs: Sequence[str], outputs: Sequence[tuple[str, Sequence[str | int], int]]) -> Any:
        """The graph as onnx.ModelProto, its weights still without data.

        Args:
            inputs: names, each int64 (batch, seq_len).
            outputs: name, shape and ONNX element type.
        """
        from onnx import TensorProto, helper

        used = {name for node in every_node(self.nodes) for name in node.input}
        tensors = []
        for name, (shape, dtype, _) in self.weights.items():
            if name in used:
                tensors.append(
                    TensorProto(name=name, dims=shape, data_type=helper.np_dtype_to_tensor_dtype(dtype))
                )
        axes = ["batch_size", "sequence_length"]
        graph = helper.make_graph(
            self.nodes,
            "embedge",
            [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in inputs],
            [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape, kind in outputs],
            tensors,
        )
        opsets = [helper.make_opsetid("", self._opset), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="embedge")

    def loads(self) -> dict[str, Load]:
        """What reads each weight, by its name."""
        return {name: _Checked(name, *entry) for name, entry in self.weights.items()}


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from every_node(attribute.g.node)


class _Checked:
    """Reads a weight, and holds it against the shape that the graph states."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], load: Load) -> None:
        self._name, self._shape, self._dtype, self._load = name, shape, dtype, load

    def __call__(self) -> Array:
        array = np.asarray(self._load(), self._dtype, order="C")
        assert array.shape == self._shape, (self._name, array.shape, self._shape)
        return array
