"""The blocks of an encoder, each written once: norm, attention, feed-forward, embedding."""

from __future__ import annotations

import msgspec
import numpy as np

from embedge_export.families.structure import (
    Attention,
    Embedding,
    FeedForward,
    Head,
    HiddenActivation,
    Norm,
    Rotary,
)
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.choices import Choices
from embedge_export.graph.built.disentangled import distance_scores
from embedge_export.graph.built.embedding import embedded
from embedge_export.graph.built.linear import (
    LoadFloats,
    Projection,
    absorbed_bias,
    add_bias,
    pad_heads,
    project,
    projection,
)
from embedge_export.graph.built.positions import PositionNodes
from embedge_export.graph.built.weights import Weights


class Blocks:
    """Emits blocks for one target.

    Args:
        canvas: the graph.
        weights: the checkpoint.
        choices: operators of the target.
        positions: masks and positions.
    """

    def __init__(self, canvas: Canvas, weights: Weights, choices: Choices, positions: PositionNodes) -> None:
        self.canvas = canvas
        self.weights = weights
        self.choices = choices
        self.positions = positions

    def norm(self, rows: str, norm: Norm | None) -> str:
        """Normalise the last axis of (…, size)."""
        if norm is None:
            return rows
        canvas, weights = self.canvas, self.weights
        size = norm.weight.shape
        scale = canvas.weight(norm.weight.name, size, lambda: weights.read(norm.weight))
        if norm.kind == "rms":
            # no onnx operator below opset 23; this one has been in onnxruntime for years
            return canvas.op("SimplifiedLayerNormalization", rows, scale, axis=-1, epsilon=norm.epsilon)
        inputs = [rows, scale]
        bias = norm.bias
        if bias is not None:
            inputs.append(canvas.weight(bias.name, size, lambda: weights.read(bias)))
        return canvas.op("LayerNormalization", *inputs, axis=-1, epsilon=norm.epsilon)

    def scaled(self, rows: str, factor: float) -> str:
        """Multiply by a number."""
        return (
            rows if factor == 1.0 else self.canvas.op("Mul", rows, self.canvas.constant(factor, np.float32))
        )

    def activate(self, rows: str, activation: HiddenActivation) -> str:
        """Apply an activation to each element."""
        canvas = self.canvas
        if activation == "gelu":
            return canvas.op("Gelu", rows)
        if activation == "gelu_tanh":
            return canvas.op("Gelu", rows, approximate="tanh")
        if activation == "silu":
            # x * sigmoid(1.0 * x) in one pass
            return canvas.contrib("QuickGelu", rows, alpha=1.0)
        if activation == "tanh":
            return canvas.op("Tanh", rows)
        return canvas.op("Relu", rows)

    def embed(self, embedding: Embedding) -> str:
        """Token ids to (batch, seq_len, size)."""
        canvas, weights = self.canvas, self.weights
        hidden = embedded(canvas, weights, self.positions, embedding, np.float32)
        hidden = self.norm(hidden, embedding.norm)
        if embedding.projection is not None:
            (hidden,) = project(canvas, hidden, [projection(weights, embedding.projection)])
        return hidden

    def feed_forward(self, rows: str, block: FeedForward) -> str:
        """(…, hidden_size) to (…, hidden_size)."""
        canvas, weights = self.canvas, self.weights
        up = projection(weights, block.up)
        if block.gate is None:
            (inner,) = project(canvas, rows, [up])
            inner = self.activate(inner, block.activation)
        else:
            gate, linear = project(canvas, rows, [projection(weights, block.gate), up])
            inner = canvas.op("Mul", self.activate(gate, block.activation), linear)
        (result,) = project(canvas, inner, [projection(weights, block.down)])
        return result

    def head(self, hidden: str, head: Head) -> str:
        """(batch, seq_len, hidden_size) to logits (batch, n), or (batch, seq_len, n)."""
        canvas, weights = self.canvas, self.weights
        rows = self._pool(hidden, head) if head.pooling else hidden
        canvas.scope("head")
        if head.first is not None:
            (rows,) = project(canvas, rows, [projection(weights, head.first)])
        if head.activation is not None:
            rows = self.activate(rows, head.activation)
        last = projection(weights, head.last)
        rows = self.norm(rows, head.norm)
        there = canvas.weights.get(last.name)
        if there is not None and there[:2] == (last.shape[::-1], np.dtype(np.float32)):
            # the table of words, the other way round: onnxruntime turns it while it loads
            turned = canvas.op("Transpose", last.name, perm=[1, 0])
            return add_bias(canvas, canvas.op("MatMul", rows, turned), last)
        last = msgspec.structs.replace(last, name=f"head.{last.name}")
        (logits,) = project(canvas, rows, [last])
        return logits

    def _pool(self, hidden: str, head: Head) -> str:
        canvas = self.canvas
        if head.pooling == "CLS":
            return canvas.op("Gather", hidden, canvas.constant(0), axis=1)
        if head.pooling == "LAST":
            places = canvas.op("Mul", "attention_mask", self.positions.positions())
            if head.passed_over_id is not None:
                other = canvas.op("Equal", "input_ids", canvas.constant(head.passed_over_id))
                places = canvas.op("Where", other, canvas.constant(0), places)
            last = canvas.op("ReduceMax", places, canvas.constant([1]), keepdims=1)
            return canvas.op("GatherND", hidden, last, batch_dims=1)
        mask = self.positions.mask()
        total = canvas.op("MatMul", canvas.op("Unsqueeze", mask, canvas.constant([1])), hidden)
        count = canvas.op("ReduceSum", mask, canvas.constant([1]), keepdims=1)
        return canvas.op("Div", canvas.op("Squeeze", total, canvas.constant([1])), count)

    def attention(self, rows: str, block: Attention, scope: str) -> str:
        """(batch, seq_len, hidden_size) to the same shape."""
        mix = self._flash if self.choices.flash and block.is_plain else self._plain
        mixed = mix(rows, block, scope)
        output = block.output
        matrix = Projection(
            name=projection(self.weights, output).name,
            shape=(output.in_features, output.out_features),
            load=projection(self.weights, output).load,
            load_bias=self._output_bias(block),
        )
        (result,) = project(self.canvas, mixed, [matrix])
        return result

    def _output_bias(self, block: Attention) -> LoadFloats | None:
        if block.num_kv_heads != block.num_heads:
            return projection(self.weights, block.output).load_bias
        return absorbed_bias(self.weights, block.output, block.value)

    def _flash(self, rows: str, block: Attention, scope: str) -> str:
        """Flash attention with a mask: onnxruntime's kernel takes none, so a component of each head carries it."""
        canvas, weights = self.canvas, self.weights
        mask = self.positions.head_mask(block.num_heads, block.head_dim, block.scale)
        canvas.scope(scope)
        heads = block.num_heads
        query = pad_heads(projection(weights, block.query), heads, 1.0, ".masked")
        # a key's bias moves all scores of a query alike, and softmax takes it out
        key = pad_heads(projection(weights, block.key), heads, 0.0, ".masked", bias=False)
        value = projection(weights, block.value, bias=False)
        q, k, v = project(canvas, rows, [query, key, value])
        k = canvas.op("Add", k, mask)
        return canvas.contrib("MultiHeadAttention", q, k, v, num_heads=heads, scale=block.scale)

    def _plain(self, rows: str, block: Attention, scope: str) -> str:
        """Attention from single operators: any mask, grouped heads, rotations."""
        canvas, weights = self.canvas, self.weights
        bias = self.positions.bias(block)
        rotation = None if block.rotary is None else self.positions.rotation(block.rotary)
        growth = None if block.growth is None else self.positions.growth(block.growth)
        canvas.scope(scope)
        groups = block.num_heads // block.num_kv_heads
        kept = groups > 1 or block.rotary is not None or block.key_norm is not None
        kept = kept or block.disentangled is not None
        q, k, v = project(
            canvas,
            rows,
            [
                projection(weights, block.query),
                projection(weights, block.key, bias=kept),
                projection(weights, block.value, bias=groups > 1),
            ],
        )
        # (batch, kv_heads, groups * seq_len, head_dim): the heads of a group share one product with their keys
        q = self._heads(q, block.num_heads, block, block.query_norm, rotation)
        q = q if growth is None else canvas.op("Mul", q, growth)
        k = self._heads(k, block.num_kv_heads, block, block.key_norm, rotation)
        v = self._heads(v, block.num_kv_heads, block, None, None)
        if block.disentangled is not None:
            near = distance_scores(canvas, weights, self.positions, block, (q, k), np.float32)
            bias = canvas.op("Add", near, bias)
        if groups > 1:
            q = canvas.op("Reshape", q, canvas.constant([0, block.num_kv_heads, -1, block.head_dim]))
        scores = self._scores(q, k, block)
        if groups > 1:
            scores = self._split_groups(scores, block)
        attended = canvas.op("Softmax", canvas.op("Add", scores, bias), axis=-1)
        if groups > 1:
            attended = self._join_groups(attended, block)
        mixed = canvas.op("MatMul", attended, v)
        if groups > 1:
            mixed = self._split_groups(mixed, block, block.head_dim)
        mixed = canvas.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return canvas.op("Reshape", mixed, canvas.constant([0, 0, block.num_heads * block.head_dim]))

    def _scores(self, q: str, k: str, block: Attention) -> str:
        """Scaled products of queries and keys, capped where there is a cap."""
        canvas, cap = self.canvas, block.softcap
        alpha = block.scale if cap is None else block.scale / cap
        scores = canvas.contrib("FusedMatMul", q, k, transB=1, alpha=alpha)
        return scores if cap is None else self.scaled(canvas.op("Tanh", scores), cap)

    def _split_groups(self, rows: str, block: Attention, last: int | None = None) -> str:
        """(batch, kv_heads, groups * seq_len, n) to (batch, num_heads, seq_len, n)."""
        canvas = self.canvas
        length = self.positions.seq_len()
        tail = length if last is None else canvas.constant([last])
        shape = canvas.op("Concat", canvas.constant([0, block.num_heads]), length, tail, axis=0)
        return canvas.op("Reshape", rows, shape)

    def _join_groups(self, rows: str, block: Attention) -> str:
        canvas = self.canvas
        shape = canvas.op(
            "Concat", canvas.constant([0, block.num_kv_heads, -1]), self.positions.seq_len(), axis=0
        )
        return canvas.op("Reshape", rows, shape)

    def _heads(
        self,
        rows: str,
        num_heads: int,
        block: Attention,
        norm: Norm | None,
        rotation: tuple[str, str] | None,
    ) -> str:
        """(batch, seq_len, num_heads * head_dim) to (batch, num_heads, seq_len, head_dim), normalised and rotated."""
        canvas = self.canvas
        if block.norms_of == "all heads":
            rows, norm = self.norm(rows, norm), None
        heads = canvas.op("Reshape", rows, canvas.constant([0, 0, num_heads, block.head_dim]))
        heads = canvas.op("Transpose", self.norm(heads, norm), perm=[0, 2, 1, 3])
        if rotation is None or block.rotary is None:
            return heads
        return self._rotate(heads, block.rotary, rotation)

    def _rotate(self, heads: str, rotary: Rotary, rotation: tuple[str, str]) -> str:
        canvas = self.canvas
        half = len(rotary.frequencies)
        first, second = canvas.ops("Split", heads, canvas.constant([half, half]), outputs=2, axis=-1)
        cos, sin = rotation
        return canvas.op(
            "Concat",
            canvas.op("Sub", canvas.op("Mul", first, cos), canvas.op("Mul", second, sin)),
            canvas.op("Add", canvas.op("Mul", second, cos), canvas.op("Mul", first, sin)),
            axis=-1,
        )
