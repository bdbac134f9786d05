"""The blocks of an encoder in CUDA's operators but attention, each written once: embedding, norms, feed-forward."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.types import IntArray
from embedge_export.families.structure import Embedding, FeedForward, HiddenActivation, Linear, Norm, Tensor
from embedge_export.graph.built.canvas import CONTRIB, Canvas
from embedge_export.graph.built.choices import Choices, Precision
from embedge_export.graph.built.embedding import embedded
from embedge_export.graph.built.linear import LoadFloats, projection
from embedge_export.graph.built.positions import POSITIONS_SCOPE, PositionNodes
from embedge_export.graph.built.weights import Weights


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """The stream of hidden states: what is there, and what is still to be added to it.

    Attributes:
        rows: in half precision.
        delta: result of the last block, of the same shape.
        bias: of the delta's product, float16 (hidden_size,).
    """

    rows: str
    delta: str | None = None
    bias: str | None = None


def number_type(precision: Precision) -> npt.DTypeLike:
    """What a graph of that precision computes in."""
    if precision == "bf16":
        import ml_dtypes  # comes with onnx

        return ml_dtypes.bfloat16
    return np.float16 if precision == "fp16" else np.float32


class CudaBlocks:
    """Emits blocks on rows (number of tokens, size), or (batch, seq_len, size) where padding stays.

    Args:
        canvas: the graph.
        weights: the checkpoint.
        choices: which operators to write.
        positions: masks and positions.

    Attributes:
        dtype: what the graph computes in.
        padding: where the rows that were taken off are, and where each text ends; None where they stay.
        lengths: real tokens of each text, once there are rows: int32, or int64 for ONNX's Attention.
    """

    def __init__(self, canvas: Canvas, weights: Weights, choices: Choices, positions: PositionNodes) -> None:
        self.canvas = canvas
        self.weights = weights
        self.choices = choices
        self.positions = positions
        self.dtype = number_type(choices.precision)
        self.padding: tuple[str, str] | None = None
        self.lengths = ""
        self._packed = ""
        self._packed_positions = ""
        self._of_packed: dict[str, str] = {}

    def half(self, name: str, shape: tuple[int, ...], load: LoadFloats) -> str:
        """A weight in the graph's precision."""
        return self.canvas.weight(name, shape, load, self.dtype)

    def embed(self, embedding: Embedding) -> str:
        """Token ids to the first rows, padding taken off where the choices say so."""
        rows = embedded(self.canvas, self.weights, self.positions, embedding, self.dtype)
        rows = self._unpad(rows)
        if embedding.norm is not None:
            rows = self.norm(rows, embedding.norm)
        if embedding.projection is not None:
            rows = self.add_bias(*self.product(rows, embedding.projection))
        return rows

    def _unpad(self, rows: str) -> str:
        from onnx import TensorProto

        canvas = self.canvas
        counts = canvas.op("ReduceSum", "attention_mask", canvas.constant([1]), keepdims=0)
        if self.choices.attention == "standard":
            self.lengths = counts
            return rows
        self.lengths = canvas.op("Cast", counts, to=TensorProto.INT32)
        if not self.choices.packed:
            return rows
        packed, offsets, ends, _ = canvas.ops("RemovePadding", rows, self.lengths, domain=CONTRIB, outputs=4)
        self.padding = offsets, ends
        self._packed = packed
        return packed

    def of_packed(self, table: str) -> str:
        """The rows of a table by position, (seq_len, size), for each token: (1, number of tokens, size)."""
        if table not in self._of_packed:
            self._of_packed[table] = self.canvas.op("Gather", table, self._positions_of_packed())
        return self._of_packed[table]

    def _positions_of_packed(self) -> str:
        """Position of each token in its text, int64 (1, number of tokens)."""
        from onnx import TensorProto

        assert self.padding is not None
        if not self._packed_positions:
            canvas = self.canvas
            canvas.scope(POSITIONS_SCOPE)
            # places in the padded batch, those of real tokens first
            places = canvas.op("Reshape", self.padding[0], canvas.constant([1, -1]))
            count = canvas.op("Shape", self._packed, start=0, end=1)
            real = canvas.op("Slice", places, canvas.constant([0]), count, canvas.constant([1]))
            places = canvas.op("Cast", real, to=TensorProto.INT64)
            self._packed_positions = canvas.op("Mod", places, self.positions.seq_len())
        return self._packed_positions

    def pad(self, rows: str) -> str:
        """Back to (batch, seq_len, size), with zeros at padding."""
        if self.padding is None:
            return rows
        return self.canvas.contrib("RestorePadding", rows, self.padding[0])

    def product(self, rows: str, linear: Linear) -> tuple[str, str | None]:
        """The product with a projection's weights, and its bias, which is not added yet."""
        canvas = self.canvas
        matrix = projection(self.weights, linear)
        result = canvas.op("MatMul", rows, self.half(matrix.name, matrix.shape, matrix.load))
        if matrix.load_bias is None:
            return result, None
        return result, self.half(f"{matrix.name}.bias", matrix.shape[1:], matrix.load_bias)

    def add_bias(self, rows: str, bias: str | None) -> str:
        """Add a bias, if there is one."""
        return rows if bias is None else self.canvas.op("Add", rows, bias)

    def norm(self, rows: str, norm: Norm, order: IntArray | None = None) -> str:
        """Normalise rows to which nothing is to be added; sums are kept in float32.

        Args:
            rows: any shape; normalised over the last axis.
            norm: how.
            order: which of the weight's components stands where, if not in its own order.
        """
        canvas = self.canvas
        scale, shift = self._norm_weights(norm, order)
        if norm.kind == "rms":
            return canvas.op("SimplifiedLayerNormalization", rows, scale, axis=-1, epsilon=norm.epsilon)
        inputs = [rows, scale] if shift is None else [rows, scale, shift]
        return canvas.op("LayerNormalization", *inputs, axis=-1, epsilon=norm.epsilon)

    def add_norm(self, state: Sum, norm: Norm | None, keep_sum: bool = True) -> tuple[str, Sum]:
        """Add what is to be added, and normalise the sum.

        Returns:
            The normalised sum, and the sum, where it is kept.
        """
        canvas = self.canvas
        if norm is None:
            rows = state.rows
            if state.delta is not None:
                rows = canvas.op("Add", self.add_bias(state.delta, state.bias), rows)
            return rows, Sum(rows=rows)
        if state.delta is None:
            return self.norm(state.rows, norm), state
        scale, shift = self._norm_weights(norm)
        kind = "SkipSimplifiedLayerNormalization" if norm.kind == "rms" else "SkipLayerNormalization"
        inputs = [state.delta, state.rows, scale]
        if norm.kind == "layer":
            inputs.append(shift or "")
        inputs.append(state.bias or "")
        while not inputs[-1]:
            inputs.pop()
        if not keep_sum:
            return canvas.contrib(kind, *inputs, epsilon=norm.epsilon), state
        # between the result and the sum are two outputs for training
        normalised, *_, total = canvas.ops(
            kind, *inputs, domain=CONTRIB, outputs=4, unused=(1, 2), epsilon=norm.epsilon
        )
        return normalised, Sum(rows=total)

    def _norm_weights(self, norm: Norm, order: IntArray | None = None) -> tuple[str, str | None]:
        def ordered(tensor: Tensor) -> str:
            if order is None:
                return self.half(tensor.name, tensor.shape, lambda: self.weights.read(tensor))
            return self.half(f"{tensor.name}.pairs", tensor.shape, lambda: self.weights.read(tensor)[order])

        return ordered(norm.weight), None if norm.bias is None else ordered(norm.bias)

    def feed_forward(self, rows: str, block: FeedForward) -> tuple[str, str | None]:
        """The block without the bias of its last product, and that bias."""
        canvas = self.canvas
        up, bias = self.product(rows, block.up)
        if block.gate is not None:
            gate, gate_bias = self.product(rows, block.gate)
            inner = canvas.op(
                "Mul",
                self._activate(gate, gate_bias, block.activation, block.gate.out_features),
                self.add_bias(up, bias),
            )
        else:
            inner = self._activate(up, bias, block.activation, block.up.out_features)
        return self.product(inner, block.down)

    def _activate(self, rows: str, bias: str | None, activation: HiddenActivation, size: int) -> str:
        canvas = self.canvas
        if activation == "gelu":
            # that of a bias of nothing takes three quarters of the time of the one without
            zeros = canvas.constant(np.zeros(size), self.dtype)
            return canvas.contrib("BiasGelu", rows, zeros if bias is None else bias)
        if activation == "gelu_tanh":
            return canvas.contrib("FastGelu", rows, *([] if bias is None else [bias]))
        rows = self.add_bias(rows, bias)
        if activation == "silu":
            return canvas.contrib("QuickGelu", rows, alpha=1.0)
        return canvas.op("Relu" if activation == "relu" else "Tanh", rows)
