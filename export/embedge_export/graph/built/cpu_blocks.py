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
)
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.cpu_attention import CpuAttention
from embedge_export.graph.built.embedding import embedded
from embedge_export.graph.built.linear import (
    LoadFloats,
    Projection,
    absorbed_bias,
    add_bias,
    project,
    projection,
)
from embedge_export.graph.built.positions import PositionNodes
from embedge_export.graph.built.prefixes import PrefixNodes
from embedge_export.graph.built.weights import Weights


class Blocks:
    """Emits blocks for one target.

    Args:
        canvas: the graph.
        weights: the checkpoint.
        positions: masks and positions.
        prefixes: of texts that may come after a prefix.
        plain: see CpuAttention.
    """

    def __init__(
        self,
        canvas: Canvas,
        weights: Weights,
        positions: PositionNodes,
        prefixes: PrefixNodes | None = None,
        *,
        plain: bool = False,
    ) -> None:
        self.canvas = canvas
        self.weights = weights
        self.positions = positions
        self._attention = CpuAttention(canvas, weights, positions, self.norm, prefixes, plain)

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
        mixed = self._attention.mix(rows, block, scope)
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
