"""Find and replace products and table look-ups in an ONNX graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.errors import ExportError
from embedge_export.graph.built.canvas import every_node
from embedge_export.variants.patterns import added_rows, turned_tables

if TYPE_CHECKING:
    import onnx

SMALLEST_WEIGHT = 64 * 64
"""Values of the smallest matrix that is worth storing in fewer bits."""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A product of activations with a stored matrix, or a look-up in a stored table.

    Attributes:
        node: position in the graph's list of nodes.
        rows: name of the activations, or of the indices.
        matrix: name of the float32 initialiser, (in_features, out_features) or (num_rows, size).
        output: name of the result, bias included.
        bias: name of the float32 row that is added, by Gemm or by an Add node of its own.
        bias_node: position of that Add node.
        producer: operator that gives `rows`; empty for inputs of the graph.
        channels: length of a row; 0 for look-ups.
        turn: position of the Transpose node that gives the matrix, of a table that look-ups read as well; the table is
            (out_features, in_features) then.
    """

    node: int
    rows: str
    matrix: str
    output: str
    bias: str | None = None
    bias_node: int | None = None
    producer: str = ""
    channels: int = 0
    turn: int | None = None


class GraphEditor:
    """Replaces nodes of a graph by their position, and drops at the end the weights that nothing reads any more.

    Weights in a file beside the graph are read one by one, when they are asked for, so that a graph's rewriting takes
    little more memory than its result.

    Args:
        model: it is changed in place.
        folder: where the model's external data is.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        self.model = model
        self._folder = folder
        self._graph = model.graph
        self._replaced: dict[int, list[onnx.NodeProto]] = {}
        self._inserted: dict[int, list[onnx.NodeProto]] = {}
        self._weights = {tensor.name: tensor for tensor in self._graph.initializer}

    @classmethod
    def open(cls, path: Path) -> GraphEditor:
        """An editor of a graph on disk; the file stays as it is."""
        import onnx

        return cls(onnx.load(str(path), load_external_data=False), path.parent)

    def products(self) -> list[Product]:
        """MatMul and Gemm nodes whose second factor is a stored float32 matrix of at least SMALLEST_WEIGHT values.

        A matrix that several nodes multiply with is left alone, and so is one that is stored transposed, unless it is a
        table of words that the last product of a masked language model shares.
        """
        found = []
        uses = Counter(name for node in self._graph.node for name in node.input)
        producers = {name: node.op_type for node in self._graph.node for name in node.output}
        additions = added_rows(self._graph, self._weights, uses)
        turned = turned_tables(self._graph, self._weights, uses)
        for position, node in enumerate(self._graph.node):
            if node.op_type not in ("MatMul", "Gemm") or node.domain:
                continue
            turn, matrix = turned.get(node.input[1], (None, node.input[1]))
            tensor = self._weights.get(matrix)
            if tensor is None or tensor.data_type != 1 or len(tensor.dims) != 2:
                continue
            if (uses[tensor.name] > 1 and turn is None) or tensor.dims[0] * tensor.dims[1] < SMALLEST_WEIGHT:
                continue
            output, bias, bias_node = node.output[0], None, None
            if node.op_type == "MatMul" and output in additions:
                bias_node, bias = additions[output]
                output = self._graph.node[bias_node].output[0]
            if node.op_type == "Gemm":
                stated = {attribute.name: attribute for attribute in node.attribute}
                plain = all(stated[n].f == 1 for n in ("alpha", "beta") if n in stated)
                straight = all(stated[n].i == 0 for n in ("transA", "transB") if n in stated)
                if not (plain and straight):
                    continue
                bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
            found.append(
                Product(
                    node=position,
                    rows=node.input[0],
                    matrix=tensor.name,
                    output=output,
                    bias=bias,
                    bias_node=bias_node,
                    producer=producers.get(node.input[0], ""),
                    channels=tensor.dims[0 if turn is None else 1],
                    turn=turn,
                )
            )
        return found

    def attention_values(self, products: Iterable[Product]) -> dict[str, Product]:
        """The product that gives the values of each MultiHeadAttention and nothing else, by the attention's result.

        A channel of the values becomes the same channel of the result.
        """
        uses = Counter(name for node in self._graph.node for name in node.input)
        kept = {value.name for value in self._graph.output}
        by_output = {product.output: product for product in products}
        found = {}
        for node in self._graph.node:
            if node.op_type != "MultiHeadAttention" or len(node.input) < 3 or any(node.input[6:8]):
                continue
            values = by_output.get(node.input[2])
            has_bias = len(node.input) > 3 and node.input[3]
            if values is not None and not has_bias and uses[values.output] == 1 and values.output not in kept:
                found[node.output[0]] = values
        return found

    def norm(self, rows: str) -> onnx.NodeProto | None:
        """The LayerNormalization of the last axis, with a stored scale, that gives an activation; None for others."""
        for node in self._graph.node:
            if node.op_type != "LayerNormalization" or rows not in node.output[:1]:
                continue
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
            stored = [self._weights.get(name) for name in node.input[1:]]
            plain = all(t is not None and t.data_type == 1 and len(t.dims) == 1 for t in stored)
            return node if axis == -1 and plain else None
        return None

    def norm_like(
        self, norm: onnx.NodeProto, output: str, factors: npt.NDArray[Any], shift: npt.NDArray[Any]
    ) -> onnx.NodeProto:
        """A normalisation of the same rows whose result is multiplied by factors and shifted, (channels,) each."""
        import onnx

        bias = self.array(norm.input[2]) * factors if len(norm.input) > 2 else 0
        made = onnx.NodeProto()
        made.CopyFrom(norm)
        made.name = output
        del made.input[1:], made.output[:]
        made.output.append(output)
        made.input.append(
            self.weight(f"{output}.scale", (self.array(norm.input[1]) * factors).astype(np.float32))
        )
        made.input.append(self.weight(f"{output}.bias", (bias + shift).astype(np.float32)))
        return made

    def tables(self, fewest_rows: int) -> list[Product]:
        """Gather nodes along the first axis of a stored float32 table that nothing else reads, replaced nodes apart."""
        nodes = enumerate(self._graph.node)
        uses = Counter(name for at, node in nodes if at not in self._replaced for name in node.input)
        found = []
        for position, node in enumerate(self._graph.node):
            tensor = self._weights.get(node.input[0]) if node.op_type == "Gather" else None
            if tensor is None or tensor.data_type != 1 or len(tensor.dims) != 2 or uses[tensor.name] > 1:
                continue
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            if axis == 0 and tensor.dims[0] >= fewest_rows:
                found.append(
                    Product(node=position, rows=node.input[1], matrix=tensor.name, output=node.output[0])
                )
        return found

    def float_weights(self) -> list[str]:
        """Names of the float32 initialisers of at least SMALLEST_WEIGHT values."""
        large = {n: t for n, t in self._weights.items() if int(np.prod(t.dims)) >= SMALLEST_WEIGHT}
        return [name for name, tensor in large.items() if tensor.data_type == 1]

    @property
    def opset(self) -> int:
        """Version of the ONNX operator set."""
        return max(each.version for each in self.model.opset_import if each.domain in ("", "ai.onnx"))

    def array(self, name: str) -> npt.NDArray[Any]:
        """Values of an initialiser."""
        import onnx
        from onnx import numpy_helper

        # a copy, since what is loaded stays in the tensor
        tensor = onnx.TensorProto()
        tensor.CopyFrom(self._weights[name])
        return numpy_helper.to_array(tensor, base_dir=str(self._folder))

    def matrix(self, product: Product) -> npt.NDArray[Any]:
        """The stored matrix of a product, (in_features, out_features)."""
        values = self.array(product.matrix)
        return values if product.turn is None else np.ascontiguousarray(values.T)

    def weight(self, name: str, values: npt.ArrayLike) -> str:
        """Store an initialiser, once; returns its name."""
        from onnx import numpy_helper

        if name not in self._weights:
            tensor = numpy_helper.from_array(np.asarray(values), name)
            self._graph.initializer.append(tensor)
            self._weights[name] = tensor
        return name

    def has_weight(self, name: str) -> bool:
        """Whether an initialiser of this name is there."""
        return name in self._weights

    def node(
        self, op_type: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: object
    ) -> onnx.NodeProto:
        """A node that is named after its output."""
        from onnx import helper

        return helper.make_node(op_type, list(inputs), [output], name=output, domain=domain, **attributes)

    def insert(self, position: int, nodes: Iterable[onnx.NodeProto]) -> None:
        """Put nodes before the node at a position."""
        self._inserted.setdefault(position, []).extend(nodes)

    def replace(self, product: Product, nodes: Iterable[onnx.NodeProto]) -> None:
        """Put nodes in place of a product or look-up, and of the addition of its bias."""
        self._replaced[product.node] = []
        if product.turn is not None:
            self._replaced[product.turn] = []
        self._replaced[product.node if product.bias_node is None else product.bias_node] = list(nodes)

    def widen(self, name: str, stored: str) -> None:
        """Read an initialiser from a stored half-precision one."""
        self.insert(0, [self.node("Cast", [stored], name, to=1)])
        del self._weights[name]

    def expose(self, names: Iterable[str]) -> None:
        """Make tensors outputs of the graph."""
        from onnx import helper

        existing = {value.name for value in self._graph.output}
        self._graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names if n not in existing)

    def require_contrib_ops(self) -> None:
        """State that onnxruntime's own operators are used."""
        from onnx import helper

        if not any(opset.domain == "com.microsoft" for opset in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    def serialize(self) -> bytes:
        """The model as it stands."""
        data: bytes = self.model.SerializeToString()
        return data

    def finish(self) -> onnx.ModelProto:
        """Carry out the replacements, and drop the weights that nothing reads."""
        nodes: list[onnx.NodeProto] = []
        for position, node in enumerate(self._graph.node):
            nodes += self._inserted.get(position, [])
            nodes += self._replaced.get(position, [node])
        read = {name for node in every_node(nodes) for name in node.input}
        read |= {value.name for value in self._graph.output}
        written = {name for node in nodes for name in node.output}
        kept = [t for t in self._graph.initializer if t.name in read and t.name not in written]
        kept = [self._inside(tensor) for tensor in kept]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(nodes)
        self._graph.initializer.extend(kept)
        return self.model

    def _inside(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """A tensor with its values in it."""
        from onnx import numpy_helper

        if not tensor.external_data:
            return tensor
        return numpy_helper.from_array(self.array(tensor.name), tensor.name)


def nothing_to_store(variant: str) -> ExportError:
    """What to raise where a graph has no product that a variant would make smaller or faster."""
    return ExportError(
        f"the graph has no product with a stored matrix of {SMALLEST_WEIGHT:,} values or more, so a variant {variant} "
        f"would be neither smaller nor faster. Omit {variant}."
    )
