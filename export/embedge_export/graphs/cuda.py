"""Encoders in half precision for CUDA: fused operators, and no padding between the embedding and the last layer.

Encoders whose tokens all see each other, at learnt positions, take the packed operators of onnxruntime's CUDA provider,
which its CPU provider lacks. All others take ONNX's own Attention, which both have, on rows with padding. Sums of
products are kept in float32 by the kernels; the last hidden states are given as float32, and what pools them computes
in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._types import FloatArray
from embedge_export.graphs.blocks import Blocks
from embedge_export.graphs.build import finish
from embedge_export.graphs.canvas import CONTRIB, Canvas, Load
from embedge_export.graphs.linear import LoadFloats, absorbed_bias, projection
from embedge_export.graphs.positions import Places
from embedge_export.graphs.structure import (
    Attention,
    Embedding,
    Encoder,
    FeedForward,
    Head,
    Layer,
    Linear,
    Norm,
    Rotary,
)
from embedge_export.graphs.targets import CPU_FP32, Choices, Precision
from embedge_export.graphs.tensors import Weights

if TYPE_CHECKING:
    import onnx

_MASKED = -3e4
"""Scores of what must not be seen; float16 ends at 65,504, and a row of infinities gives no softmax."""
_HEAD_MULTIPLE = 8
_LENGTH_MULTIPLE = 8
_STANDARD_OPSET = 24
"""Of the first Attention that takes the number of a text's real tokens."""


class _Sum(msgspec.Struct, frozen=True, kw_only=True):
    """The stream of hidden states: what is there, and what is still to be added to it.

    Attributes:
        rows: in half precision.
        delta: result of the last block, of the same shape.
        bias: of the delta's product, float16 (hidden_size,).
    """

    rows: str
    delta: str | None = None
    bias: str | None = None


def suits_packing(encoder: Encoder) -> bool:
    """Whether the packed operators have its attention: every token sees every other, and nothing is rotated."""
    return all(_is_simple(layer.attention) for layer in encoder.layers)


def _is_simple(block: Attention) -> bool:
    return not (
        block.causal
        or block.window is not None
        or block.relative
        or block.num_heads != block.num_kv_heads
        or block.rotary is not None
        or block.query_norm is not None
        or block.key_norm is not None
    )


def suited(encoder: Encoder, choices: Choices) -> Choices:
    """The choices, or those of ONNX's Attention where the packed operators do not have the encoder's."""
    if choices.attention == "standard" or suits_packing(encoder):
        return choices
    return msgspec.structs.replace(choices, attention="standard", packed=False, separate_from=None)


def twins(choices: Choices) -> list[Choices]:
    """The choices' forms with operators that the CPU has as well, in float32 and with padding kept."""
    forms = [choices.attention] if choices.separate_from is None else ["merged", "separate"]
    return [
        msgspec.structs.replace(choices, precision="fp32", packed=False, attention=form, separate_from=None)
        for form in forms
    ]


def without_idle_windows(encoder: Encoder, max_seq_len: int) -> Encoder:
    """The encoder without the windows that no text is long enough for: without a mask, attention is faster."""

    def widened(layer: Layer) -> Layer:
        block = layer.attention
        if block.window is None:
            return layer
        reach = block.window[0] if block.causal else min(block.window)
        if reach < max_seq_len - 1:
            return layer
        return msgspec.structs.replace(layer, attention=msgspec.structs.replace(block, window=None))

    return msgspec.structs.replace(encoder, layers=tuple(widened(layer) for layer in encoder.layers))


def score_heads(encoder: Encoder) -> int | None:
    """Heads whose scores a run on a GPU holds at once: its kernels work in blocks, but not on heads of odd sizes."""
    blocks = [layer.attention for layer in encoder.layers]
    if all(block.head_dim % _HEAD_MULTIPLE == 0 for block in blocks):
        return None
    return max(block.num_heads for block in blocks)


def pad_to(encoder: Encoder, choices: Choices) -> int:
    """What a batch's padded length should be a multiple of: kernels that add masks to scores load that many at once."""
    masked = any(layer.attention.window is not None or layer.attention.relative for layer in encoder.layers)
    return _LENGTH_MULTIPLE if masked and choices.attention == "standard" else 1


def build_cuda(
    encoder: Encoder, weights: Weights, choices: Choices, head: Head | None = None
) -> tuple[onnx.ModelProto, dict[str, Load]]:
    """Write the graph of an encoder for CUDA.

    Args:
        encoder: what it is made of.
        weights: where its weights are.
        choices: which operators to write, as `suited` gives them.
        head: what follows the last hidden states, if anything; in float32.

    Returns:
        As `build.build`. attention_mask must be 1 at the first tokens of a text and 0 after them.
    """
    from onnx import TensorProto

    standard = choices.attention == "standard"
    canvas = Canvas(opset=_STANDARD_OPSET) if standard else Canvas()
    if choices.separate_from is None:
        hidden = _body(canvas, encoder, weights, choices)
    else:
        separate, merged = canvas.branch(), canvas.branch()
        other = msgspec.structs.replace(choices, attention="separate")
        then = separate, _body(separate, encoder, weights, other)
        otherwise = merged, _body(merged, encoder, weights, choices)
        hidden = canvas.choose(_is_long(canvas, *choices.separate_from), then, otherwise, TensorProto.FLOAT)
    if head is not None:
        places = Places(canvas, weights, encoder.relative)
        hidden = Blocks(canvas, weights, CPU_FP32, places).head(hidden, head)
    return finish(canvas, encoder, hidden, head)


def number_type(precision: Precision) -> npt.DTypeLike:
    """What a graph of that precision computes in."""
    if precision == "bf16":
        import ml_dtypes  # comes with onnx

        return ml_dtypes.bfloat16
    return np.float16 if precision == "fp16" else np.float32


def _is_long(canvas: Canvas, length: int, tokens: int) -> str:
    """Whether a batch is so long and has so many tokens, padding included; no value on the device is read."""
    canvas.scope("form")
    long = canvas.op(
        "GreaterOrEqual",
        canvas.op("Gather", canvas.op("Shape", "input_ids"), canvas.constant(1)),
        canvas.constant(length),
    )
    large = canvas.op("GreaterOrEqual", canvas.op("Size", "input_ids"), canvas.constant(tokens))
    return canvas.op("And", long, large)


def _body(canvas: Canvas, encoder: Encoder, weights: Weights, choices: Choices) -> str:
    """Token ids to the last hidden states, float32."""
    from onnx import TensorProto

    writer = _Writer(canvas, weights, choices, Places(canvas, weights, encoder.relative))
    state = _Sum(rows=writer.embed(encoder.embedding))
    for index, layer in enumerate(encoder.layers):
        for name, around, block in (
            (f"layers.{index}.attention", layer.around_attention, layer.attention),
            (f"layers.{index}.feed_forward", layer.around_feed_forward, layer.feed_forward),
        ):
            canvas.scope(name)
            rows, state = writer.add_norm(state, around.norm_in)
            delta, bias = (
                writer.attention(rows, block)
                if isinstance(block, Attention)
                else writer.feed_forward(rows, block)
            )
            if around.norm_out is not None:
                delta, bias = writer.norm(writer.add_bias(delta, bias), around.norm_out), None
            state = _Sum(rows=state.rows, delta=delta, bias=bias)
            if around.norm_after is not None:
                rows, _ = writer.add_norm(state, around.norm_after, keep_sum=False)
                state = _Sum(rows=rows)
    canvas.scope("final")
    rows, _ = writer.add_norm(state, encoder.final_norm, keep_sum=False)
    return canvas.op("Cast", writer.pad(rows), to=TensorProto.FLOAT)


class _Writer:
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
        canvas, weights = self.canvas, self.weights
        canvas.scope("embedding")
        words, positions, types = embedding.words, embedding.positions, embedding.types
        rows = canvas.op(
            "Gather", self.half(words.name, words.shape, lambda: weights.read(words)), "input_ids"
        )
        if embedding.scale != 1.0:
            rows = canvas.op("Mul", rows, canvas.constant(embedding.scale, self.dtype))
        if positions is not None:
            table = positions.table
            fixed = None if embedding.types_input else types

            def load() -> FloatArray:
                stored = weights.read(table)
                return stored if fixed is None else stored + weights.read(fixed)[:1]

            name = self.half(table.name, table.shape, load)
            if positions.kind == "range":
                end = self.places.seq_len()
                canvas.scope("embedding")
                placed = canvas.op("Slice", name, canvas.constant([0]), end, canvas.constant([0]))
            else:
                ids = self.places.position_ids(positions)
                canvas.scope("embedding")
                placed = canvas.op("Gather", name, ids)
            rows = canvas.op("Add", rows, placed)
        if types is not None and embedding.types_input:
            table_of_types = self.half(types.name, types.shape, lambda: weights.read(types))
            rows = canvas.op("Add", rows, canvas.op("Gather", table_of_types, "token_type_ids"))
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

    def product(self, rows: str, linear: Linear, bias: bool = True) -> tuple[str, str | None]:
        """The product with a projection's weights, and its bias, which is not added yet."""
        canvas = self.canvas
        matrix = projection(self.weights, linear, bias=bias)
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

    def add_norm(self, state: _Sum, norm: Norm | None, keep_sum: bool = True) -> tuple[str, _Sum]:
        """Add what is to be added, and normalise the sum.

        Returns:
            The normalised sum, and the sum, where it is kept.
        """
        canvas = self.canvas
        if norm is None:
            rows = state.rows
            if state.delta is not None:
                rows = canvas.op("Add", self.add_bias(state.delta, state.bias), rows)
            return rows, _Sum(rows=rows)
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
        return normalised, _Sum(rows=total)

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
        query = self.add_bias(*self.product(rows, block.query))
        key = self.add_bias(*self.product(rows, block.key, bias=turned))
        value = self.add_bias(*self.product(rows, block.value, bias=grouped))
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
        if self.choices.separate_from is None:
            query, bias = self.product(rows, block.query)
            key, _ = self.product(rows, block.key, bias=False)
            value, _ = self.product(rows, block.value, bias=False)
        else:
            # stored as the other branch needs them
            parts = canvas.ops("Split", self._merged_weight(block), outputs=3, axis=1, num_outputs=3)
            query, key, value = (canvas.op("MatMul", rows, part) for part in parts)
            matrix = projection(self.weights, block.query)
            bias = matrix.load_bias and self.half(f"{matrix.name}.bias", matrix.shape[1:], matrix.load_bias)
        query = self.add_bias(query, bias)
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
