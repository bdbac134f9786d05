"""Operators of onnxruntime's CUDA provider in numpy, for onnx's reference evaluator."""

from __future__ import annotations

import itertools
import math

import numpy as np
from onnx.reference.op_run import OpRun


class RemovePadding(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, counts):
        batch_size, seq_len = rows.shape[:2]
        real = (np.arange(seq_len) < counts[:, None]).reshape(-1)
        offsets = np.concatenate([np.flatnonzero(real), np.flatnonzero(~real)])
        ends = np.concatenate([[0], np.cumsum(counts)])
        packed = rows.reshape(batch_size * seq_len, -1)[real]
        return (
            packed,
            offsets.reshape(batch_size, seq_len).astype(np.int32),
            ends.astype(np.int32),
            counts.max(),
        )


class RestorePadding(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, offsets):
        padded = np.zeros((offsets.size, rows.shape[1]), rows.dtype)
        padded[offsets.reshape(-1)[: len(rows)]] = rows
        return (padded.reshape(*offsets.shape, -1),)


def attend(query, key, value, num_heads, scale, added=None):
    """Attention of one text, (seq_len, hidden) each; what scores get added is for texts of the padded length."""
    q, k, v = (rows.reshape(len(rows), num_heads, -1).transpose(1, 0, 2) for rows in (query, key, value))
    scores = q @ k.transpose(0, 2, 1) * scale
    if added is not None:
        scores = scores + added[0, :, : len(query), : len(query)]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (weights / weights.sum(-1, keepdims=True)) @ v
    return mixed.transpose(1, 0, 2).reshape(query.shape).astype(query.dtype)


class PackedMultiHeadAttention(OpRun):
    op_domain = "com.microsoft"

    def _run(self, query, key, value, _, offsets, ends, added=None, num_heads=None, scale=None):
        # the evaluator keeps unused outputs under the name of inputs that are left out
        assert self.onnx_node.input[3] == ""
        parts = [
            attend(query[a:b], key[a:b], value[a:b], num_heads, scale, added)
            for a, b in itertools.pairwise(ends)
        ]
        return (np.concatenate(parts),)


class PackedAttention(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, weights, bias, offsets, ends, num_heads=None, scale=None):
        q, k, v = np.split(rows @ weights + bias, 3, axis=-1)
        return (np.concatenate([
            attend(q[a:b], k[a:b], v[a:b], num_heads, scale) for a, b in itertools.pairwise(ends)
        ]),)  # fmt: skip


class SkipLayerNormalization(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, skip, scale, shift=None, bias=None, epsilon=None):
        total = rows.astype(np.float64) + skip + (0 if bias is None else bias)
        centred = total - total.mean(-1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        normal = normal * scale + (0 if shift is None else shift)
        # two outputs for training, then the sum
        outputs = tuple(made.astype(rows.dtype) for made in (normal, total, total, total))
        return outputs[: len(self.onnx_node.output)]


class SimplifiedLayerNormalization(OpRun):
    op_domain = ""

    def _run(self, rows, scale, axis=None, epsilon=None):
        mean_square = (rows.astype(np.float64) ** 2).mean(-1, keepdims=True)
        return ((rows / np.sqrt(mean_square + epsilon) * scale).astype(rows.dtype),)


class SkipSimplifiedLayerNormalization(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, skip, scale, bias=None, epsilon=None):
        total = rows.astype(np.float64) + skip + (0 if bias is None else bias)
        normal = total / np.sqrt((total**2).mean(-1, keepdims=True) + epsilon) * scale
        # two outputs for training, then the sum
        outputs = tuple(made.astype(rows.dtype) for made in (normal, total, total, total))
        return outputs[: len(self.onnx_node.output)]


class RotaryEmbedding(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, first, cosines, sines, num_heads=None, interleaved=None, **defaults):
        # the evaluator gives what ONNX's operator of that name has by default
        assert interleaved == 1
        assert first.tolist() == [0]
        assert not any(defaults.values())
        batch_size, seq_len, size = rows.shape
        heads = rows.reshape(batch_size, seq_len, num_heads, size // num_heads)
        even, odd = heads[..., ::2], heads[..., 1::2]
        c, s = (table[:seq_len, None, :] for table in (cosines, sines))
        turned = np.stack([even * c - odd * s, odd * c + even * s], axis=-1)
        return (turned.reshape(rows.shape).astype(rows.dtype),)


class BiasGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, bias):
        x = rows + bias
        return ((0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(rows.dtype),)


class QuickGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, alpha=None):
        return ((rows / (1 + np.exp(-alpha * rows))).astype(rows.dtype),)


class FastGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, rows, bias=None):
        x = rows if bias is None else rows + bias
        return ((0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))).astype(rows.dtype),)


OPS = [
    RemovePadding, RestorePadding, PackedMultiHeadAttention, PackedAttention, SkipLayerNormalization, BiasGelu,
    FastGelu, QuickGelu, SimplifiedLayerNormalization, SkipSimplifiedLayerNormalization,
    RotaryEmbedding,
]  # fmt: skip


class Absent(OpRun):
    """In place of the operator of the branch that must not run."""

    op_domain = "com.microsoft"

    def _run(self, *inputs, **attributes):
        raise AssertionError("the other branch ran")
