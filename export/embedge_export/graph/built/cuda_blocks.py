"""The blocks of an encoder in CUDA's operators, each written once: embedding, norms, attention, feed-forward."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.types import FloatArray
from embedge_export.families.structure import Attention, Embedding, FeedForward, Linear, Norm, Rotary
from embedge_export.graph.built.canvas import CONTRIB, Canvas
from embedge_export.graph.built.choices import Choices, Precision
from embedge_export.graph.built.embedding import embedded
from embedge_export.graph.built.linear import LoadFloats, absorbed_bias, projection
from embedge_export.graph.built.positions import Places
from embedge_export.graph.built.weights import Weights

_MASKED = -3e4
"""Scores of what must not be seen; float16 ends at 65,504, and a row of infinities gives no softmax."""


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
    """Emits blocks on rows (number of tokens, size), or (batch, seq_len, size) where padding stays."""

    def __init__(self, canvas: Canvas, weights: Weights, choices: Choices, places: Places) -> None:
        self.canvas = canvas
        self.weights = weights
        self.choices = choices
        self.places = places
        self.dtype = number_type(choices.precision)
        self._padding: tuple[str, str] | None = None
        self._lengths = ""
        self._spans = ""
        self._of_places: dict[object, str] = {}

    def half(self, name: str, shape: tuple[int, ...], load: LoadFloats) -> str:
        """A weight in the graph's precision."""
        return self.canvas.weight(name, shape, load, self.dtype)

    def embed(self, embedding: Embedding) -> str:
        """Token ids to the first rows, padding taken off where the choices say so."""
        rows = embedded(self.canvas, self.weights, self.places, embedding, self.dtype)
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
            self._lengths = counts
            return rows
        self._lengths = canvas.op("Cast", counts, to=TensorProto.INT32)
        if not self.choices.packed:
            return rows
        packed, offsets, ends, _ = canvas.ops("RemovePadding", rows, self._lengths, domain=CONTRIB, outputs=4)
        self._padding = offsets, ends
        return packed

    def pad(self, rows: str) -> str:
        """Back to (batch, seq_len, size), with zeros at padding."""
        if self._padding is None:
            return rows
        return self.canvas.contrib("RestorePadding", rows, self._padding[0])

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

    def norm(self, rows: str, norm: Norm) -> str:
        """Normalise rows to which nothing is to be added; sums are kept in float32."""
        canvas = self.canvas
        scale, shift = self._norm_weights(norm)
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

    def _norm_weights(self, norm: Norm) -> tuple[str, str | None]:
        weight, bias, size = norm.weight, norm.bias, norm.weight.shape
        scale = self.half(weight.name, size, lambda: self.weights.read(weight))
        return scale, None if bias is None else self.half(bias.name, size, lambda: self.weights.read(bias))

    def feed_forward(self, rows: str, block: FeedForward) -> tuple[str, str | None]:
        """The block without the bias of its last product, and that bias."""
        canvas = self.canvas
        up, bias = self.product(rows, block.up)
        if block.gate is not None:
            gate, gate_bias = self.product(rows, block.gate)
            inner = canvas.op(
                "Mul", self._activate(gate, gate_bias, block.activation), self.add_bias(up, bias)
            )
        else:
            inner = self._activate(up, bias, block.activation)
        return self.product(inner, block.down)

    def _activate(self, rows: str, bias: str | None, activation: str) -> str:
        canvas = self.canvas
        if activation == "gelu":
            return canvas.op("Gelu", rows) if bias is None else canvas.contrib("BiasGelu", rows, bias)
        if activation == "gelu_tanh":
            return canvas.contrib("FastGelu", rows, *([] if bias is None else [bias]))
        rows = self.add_bias(rows, bias)
        if activation == "silu":
            return canvas.contrib("QuickGelu", rows, alpha=1.0)
        return canvas.op("Relu" if activation == "relu" else "Tanh", rows)

    def attention(self, rows: str, block: Attention) -> tuple[str, str | None]:
        """The block without the bias of its last product, and that bias."""
        output = projection(self.weights, block.output)
        if self.choices.attention == "merged":
            mixed, bias, suffix = self._merged(rows, block), output.load_bias, "bias"
        elif block.num_heads != block.num_kv_heads:
            mixed, bias, suffix = self._standard(rows, block), output.load_bias, "bias"
        else:
            # with the bias of the values in it
            mix = self._standard if self.choices.attention == "standard" else self._separate
            mixed, bias, suffix = mix(rows, block), self._moved_bias(block), "bias+value"
        result = self.canvas.op("MatMul", mixed, self.half(output.name, output.shape, output.load))
        if bias is None:
            return result, None
        return result, self.half(f"{output.name}.{suffix}", output.shape[1:], bias)

    def _standard(self, rows: str, block: Attention) -> str:
        """ONNX's Attention on (batch, seq_len, size): any heads, rotations and masks.

        Causal attention needs no mask of padding, as it comes after all that is real.
        """
        canvas = self.canvas
        scope = canvas.scope_name
        rotation = None if block.rotary is None else self._rotation(block.rotary)
        mask = self._score_mask(block)
        canvas.scope(scope)
        grouped = block.num_heads != block.num_kv_heads
        turned = grouped or block.rotary is not None or block.key_norm is not None
        query, key, value = self._products(rows, block, key_bias=turned, value_bias=grouped)
        query = self._turn(query, block.num_heads, block, block.query_norm, rotation)
        key = self._turn(key, block.num_kv_heads, block, block.key_norm, rotation)
        inputs = [query, key, value, mask, "", "", "" if block.causal else self._lengths]
        while not inputs[-1]:
            inputs.pop()
        return canvas.op(
            "Attention",
            *inputs,
            q_num_heads=block.num_heads,
            kv_num_heads=block.num_kv_heads,
            scale=block.scale,
            is_causal=int(block.causal and not mask),
        )

    def _products(self, rows: str, block: Attention, *, key_bias: bool, value_bias: bool) -> list[str]:
        """Queries, keys and values, those biases added that are not put elsewhere."""
        canvas = self.canvas
        matrices = [
            projection(self.weights, linear, bias=bias)
            for linear, bias in ((block.query, True), (block.key, key_bias), (block.value, value_bias))
        ]
        if self.choices.split_matrices:
            weights = canvas.ops("Split", self._merged_weight(block), outputs=3, axis=1, num_outputs=3)
        else:
            weights = [self.half(matrix.name, matrix.shape, matrix.load) for matrix in matrices]
        return [
            self.add_bias(
                canvas.op("MatMul", rows, weight),
                matrix.load_bias and self.half(f"{matrix.name}.bias", matrix.shape[1:], matrix.load_bias),
            )
            for matrix, weight in zip(matrices, weights, strict=True)
        ]

    def _turn(
        self, rows: str, num_heads: int, block: Attention, norm: Norm | None, rotation: tuple[str, str] | None
    ) -> str:
        """Normalise and rotate each head of (batch, seq_len, num_heads * head_dim)."""
        canvas = self.canvas
        if norm is not None:
            heads = canvas.op("Reshape", rows, canvas.constant([0, 0, num_heads, block.head_dim]))
            size = num_heads * block.head_dim
            rows = canvas.op("Reshape", self.norm(heads, norm), canvas.constant([0, 0, size]))
        if rotation is None:
            return rows
        return canvas.contrib("RotaryEmbedding", rows, canvas.constant([0]), *rotation, num_heads=num_heads)

    def _rotation(self, rotary: Rotary) -> tuple[str, str]:
        """Cosines and sines in the graph's precision, of angles in float32."""
        made = self.places.rotation(rotary)
        return self._narrowed(made[0]), self._narrowed(made[1])

    def _score_mask(self, block: Attention) -> str:
        """What scores get added, (1, 1 or num_heads, seq_len, seq_len): windows, relative positions; "" for none."""
        if block.window is None and not block.relative:
            return ""
        canvas, places = self.canvas, self.places
        key = block.causal, block.window, block.relative
        if key in self._of_places:
            return self._of_places[key]
        unseen = places.unseen(block)
        parts = []
        if block.relative:
            parts.append(self._narrowed(places.relative_bias()))
        if unseen is not None:
            low, zero = (canvas.constant(value, self.dtype) for value in (_MASKED, 0.0))
            hidden = canvas.op("Where", unseen, low, zero)
            parts.append(canvas.op("Unsqueeze", hidden, canvas.constant([0, 1])))
        self._of_places[key] = parts[0] if len(parts) == 1 else canvas.op("Add", *parts)
        return self._of_places[key]

    def _narrowed(self, floats: str) -> str:
        from onnx import helper

        if self.dtype == np.float32:
            return floats
        if floats not in self._of_places:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
            self._of_places[floats] = self.canvas.op("Cast", floats, to=kind)
        return self._of_places[floats]

    def _moved_bias(self, block: Attention) -> LoadFloats | None:
        return absorbed_bias(self.weights, block.output, block.value)

    def _separate(self, rows: str, block: Attention) -> str:
        """Three products, which attention reads as they are: it would copy a merged one to put its heads apart.

        A key's bias moves all scores of a query alike, and softmax takes it out; a value's goes to the output's.
        """
        canvas = self.canvas
        query, key, value = self._products(rows, block, key_bias=False, value_bias=False)
        options = {"num_heads": block.num_heads, "scale": block.scale}
        if self._padding is not None:
            return canvas.contrib(
                "PackedMultiHeadAttention", query, key, value, "", *self._padding, **options
            )
        return canvas.contrib("MultiHeadAttention", query, key, value, "", self._key_lengths(), **options)

    def _key_lengths(self) -> str:
        """Lengths, then starts of queries and of keys in rows without padding taken off: int32 (3 * batch + 2,)."""
        from onnx import TensorProto

        canvas = self.canvas
        if not self._spans:
            shape = canvas.op("Shape", "input_ids")
            batch = canvas.op("Gather", shape, canvas.constant(0))
            length = canvas.op("Gather", shape, canvas.constant(1))
            numbers = canvas.op(
                "Range", canvas.constant(0), canvas.op("Add", batch, canvas.constant(1)), canvas.constant(1)
            )
            starts = canvas.op("Cast", canvas.op("Mul", numbers, length), to=TensorProto.INT32)
            self._spans = canvas.op("Concat", self._lengths, starts, starts, axis=0)
        return self._spans

    def _merged(self, rows: str, block: Attention) -> str:
        """One product for queries, keys and values, inside of the operator."""
        canvas = self.canvas
        parts = [projection(self.weights, linear) for linear in (block.query, block.key, block.value)]
        outer = parts[0].shape[1]

        def load_bias() -> FloatArray:
            return np.concatenate(
                [
                    np.zeros(outer, np.float32) if part.load_bias is None else part.load_bias()
                    for part in parts
                ]
            )

        weight = self._merged_weight(block)
        bias = self.half(f"{weight}.bias", (3 * outer,), load_bias)
        options = {"num_heads": block.num_heads, "scale": block.scale}
        if self._padding is not None:
            return canvas.contrib("PackedAttention", rows, weight, bias, *self._padding, **options)
        return canvas.contrib("Attention", rows, weight, bias, self._lengths, **options)

    def _merged_weight(self, block: Attention) -> str:
        parts = [projection(self.weights, linear) for linear in (block.query, block.key, block.value)]
        inner, outer = parts[0].shape
        return self.half(
            "+".join(part.name for part in parts),
            (inner, 3 * outer),
            lambda: np.concatenate([part.load() for part in parts], axis=1),
        )
