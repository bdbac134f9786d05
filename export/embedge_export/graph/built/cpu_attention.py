"""Attention on the CPU, in the operator that suits what a token sees.

Only "scores" holds what every token gives every other at once; the memory of the others goes with a text's length:

- flash: a token sees all others. onnxruntime's kernel takes no mask, so one more component of each head carries it.
- causal: it sees all earlier ones. Padding comes after a text, so no mask is needed.
- windowed: it sees its neighbours, which lie in one block of keys for each block of queries; see windows.
- blocks: likewise, for what that kernel does not take or not in blocks of its own; see causal_blocks.
- scores: anything else, from single operators.

benchmarks/operators times them; choices.py has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from embedge_export.families.structure import Attention, Encoder, Norm
from embedge_export.graph.built.canvas import CONTRIB, Canvas
from embedge_export.graph.built.causal_blocks import CausalBlockNodes, attended_in_blocks
from embedge_export.graph.built.disentangled import distance_scores
from embedge_export.graph.built.linear import Projection, pad_heads, project, projection
from embedge_export.graph.built.plain_rotation import turn_plainly
from embedge_export.graph.built.positions import PositionNodes
from embedge_export.graph.built.prefixes import PrefixNodes
from embedge_export.graph.built.scores import attended, heads_apart
from embedge_export.graph.built.weights import Weights
from embedge_export.graph.built.windows import WindowNodes, is_wide

Form: TypeAlias = Literal["flash", "causal", "windowed", "blocks", "scores"]
_Form: TypeAlias = Callable[[Canvas, tuple[str, str, str]], str]
"""Emits attention of queries, keys and values onto a graph, or a branch of it."""

_CAUSAL_HEAD_MULTIPLE = 8
"""What GroupQueryAttention asks of a head's size."""


def form_of(block: Attention) -> Form:
    """How a block attends."""
    if block.relative or block.disentangled is not None:
        return "scores"
    if block.window is not None and not (block.causal and is_wide(block)):
        return "windowed"
    if not block.causal:
        return "flash" if block.softcap is None else "scores"
    kernel = block.window is None and block.softcap is None and block.head_dim % _CAUSAL_HEAD_MULTIPLE == 0
    return "causal" if kernel else "blocks"


def takes_prefix(encoder: Encoder) -> bool:
    """Whether what comes before a text changes none of its numbers but by keys and values that a run can be given."""
    embedding = encoder.embedding
    blocks = [layer.attention for layer in encoder.layers]
    causal = all(block.causal and form_of(block) != "scores" for block in blocks)
    return causal and embedding.positions is None and embedding.types is None and encoder.relative is None


class CpuAttention:
    """Emits attention without its last product.

    Args:
        canvas: the graph.
        weights: the checkpoint.
        positions: masks and positions.
        norm: normalises the last axis.
        prefixes: of texts that may come after a prefix.
        plain: in single operators alone, which other execution providers know.
    """

    def __init__(
        self,
        canvas: Canvas,
        weights: Weights,
        positions: PositionNodes,
        norm: Callable[[str, Norm | None], str],
        prefixes: PrefixNodes | None = None,
        plain: bool = False,
    ) -> None:
        self._canvas = canvas
        self._weights = weights
        self._positions = positions
        self._norm = norm
        self._prefixes = prefixes
        self._plain = plain
        self._windows = WindowNodes(canvas, positions)
        self._causal_blocks = CausalBlockNodes(canvas, positions)

    def mix(self, rows: str, block: Attention, scope: str) -> str:
        """(batch, seq_len, hidden_size) to (batch, seq_len, num_heads * head_dim)."""
        form = "scores" if self._plain else form_of(block)
        if form == "flash":
            return self._flash(rows, block, scope)
        makers = {
            "causal": self._causal,
            "windowed": self._windowed,
            "blocks": self._blocks,
            "scores": self._scores,
        }
        emit = makers[form](block)
        qkv = self._turned(rows, block, scope, self._projections(block))
        if self._prefixes is None:
            return emit(self._canvas, qkv)
        return self._prefixes.attention(qkv, block, scope, emit)

    def _flash(self, rows: str, block: Attention, scope: str) -> str:
        canvas, heads, kv_heads = self._canvas, block.num_heads, block.num_kv_heads
        mask = self._positions.head_mask(kv_heads, block.head_dim, block.scale)
        query, key, value = self._projections(block)
        normalised = block.query_norm is not None or block.key_norm is not None
        if not normalised:
            query = pad_heads(query, heads, 1.0, ".masked")
            key = pad_heads(key, kv_heads, 0.0, ".masked", bias=key.load_bias is not None)
        q, k, v = self._turned(rows, block, scope, (query, key, value))
        if normalised:
            q, k = self._widened(q, heads, block, 1.0), self._widened(k, kv_heads, block, 0.0)
        k = canvas.op("Add", k, mask)
        k, v = self._repeated(k, block, block.head_dim + 1), self._repeated(v, block, block.head_dim)
        return canvas.contrib("MultiHeadAttention", q, k, v, num_heads=heads, scale=block.scale)

    def _causal(self, block: Attention) -> _Form:
        lengths = self._positions.causal_lengths()

        def form(canvas: Canvas, qkv: tuple[str, str, str]) -> str:
            # the second and third output are the cache of a decoder, which older versions insist on
            return canvas.ops(
                "GroupQueryAttention",
                *(*qkv, "", "", *lengths),
                domain=CONTRIB,
                outputs=3,
                num_heads=block.num_heads,
                kv_num_heads=block.num_kv_heads,
                scale=block.scale,
            )[0]

        return form

    def _windowed(self, block: Attention) -> _Form:
        window = self._windows.of(block)
        seq_len = self._positions.seq_len()

        def form(canvas: Canvas, qkv: tuple[str, str, str]) -> str:
            q, k, v = qkv
            q = canvas.op("Gather", q, window.query_places, axis=1)
            k, v = (canvas.op("Gather", part, window.key_places, axis=1) for part in (k, v))
            # every block is a text of its own
            heads = self._heads(canvas, (q, k, v), block, (window.num_queries, window.num_keys))
            mixed = attended(canvas, heads, block, window.bias, (window.num_queries, window.num_keys))
            width = canvas.constant([-1, block.num_heads * block.head_dim])
            mixed = canvas.op("Reshape", mixed, canvas.op("Concat", window.batch, width, axis=0))
            return canvas.op("Slice", mixed, canvas.constant([0]), seq_len, canvas.constant([1]))

        return form

    def _blocks(self, block: Attention) -> _Form:
        blocks = self._causal_blocks.of(block)
        return lambda canvas, qkv: attended_in_blocks(canvas, qkv, block, blocks)

    def _scores(self, block: Attention) -> _Form:
        length, bias = self._positions.seq_len(), self._positions.bias(block)

        def form(canvas: Canvas, qkv: tuple[str, str, str]) -> str:
            q, k, v = self._heads(canvas, qkv, block, (length, length))
            added = bias
            if block.disentangled is not None:
                near = distance_scores(canvas, self._weights, self._positions, block, (q, k), np.float32)
                added = canvas.op("Add", near, bias)
            mixed = attended(canvas, (q, k, v), block, added, (length, length))
            return canvas.op("Reshape", mixed, canvas.constant([0, 0, block.num_heads * block.head_dim]))

        return form

    def _heads(
        self, canvas: Canvas, qkv: tuple[str, str, str], block: Attention, lengths: tuple[str, str]
    ) -> tuple[str, str, str]:
        """Queries, keys and values, (texts, heads, rows, head_dim) each, of lengths queries and keys."""
        (q, k, v), (queries, keys), dim = qkv, lengths, block.head_dim
        return (
            heads_apart(canvas, q, block.num_heads, dim, queries),
            heads_apart(canvas, k, block.num_kv_heads, dim, keys),
            heads_apart(canvas, v, block.num_kv_heads, dim, keys),
        )

    def _projections(self, block: Attention) -> tuple[Projection, Projection, Projection]:
        """Queries, keys and values, without biases that change nothing."""
        grouped = block.num_heads != block.num_kv_heads
        kept = grouped or block.rotary is not None or block.key_norm is not None
        # a key's bias moves all scores of a query alike, and softmax takes it out; a value's goes into the output's
        return (
            projection(self._weights, block.query),
            projection(self._weights, block.key, bias=kept or block.disentangled is not None),
            projection(self._weights, block.value, bias=grouped),
        )

    def _turned(
        self, rows: str, block: Attention, scope: str, matrices: tuple[Projection, Projection, Projection]
    ) -> tuple[str, str, str]:
        """Queries, keys and values, each (batch, seq_len, heads * size), normalised and rotated."""
        canvas = self._canvas
        rotation = None if block.rotary is None else self._positions.rotation(block.rotary)
        growth = None if block.growth is None else self._positions.growth(block.growth)
        canvas.scope(scope)
        q, k, v = project(canvas, rows, matrices)
        q = self._normalised(q, block.num_heads, block, block.query_norm)
        k = self._normalised(k, block.num_kv_heads, block, block.key_norm)
        q = self._rotated(q, block.num_heads, rotation, block)
        k = self._rotated(k, block.num_kv_heads, rotation, block)
        return q if growth is None else canvas.op("Mul", q, growth), k, v

    def _normalised(self, rows: str, num_heads: int, block: Attention, norm: Norm | None) -> str:
        canvas = self._canvas
        if norm is None or block.norms_of == "all heads":
            return self._norm(rows, norm)
        heads = canvas.op("Reshape", rows, canvas.constant([0, 0, num_heads, block.head_dim]))
        return canvas.op(
            "Reshape", self._norm(heads, norm), canvas.constant([0, 0, num_heads * block.head_dim])
        )

    def _rotated(self, rows: str, num_heads: int, rotation: tuple[str, str] | None, block: Attention) -> str:
        if rotation is None or block.rotary is None:
            return rows
        if self._plain:
            return turn_plainly(self._canvas, rows, rotation, num_heads, block)
        return self._canvas.contrib(
            "RotaryEmbedding",
            *(rows, self._canvas.constant([0]), *rotation),
            num_heads=num_heads,
            # components beyond them stay as they are
            rotary_embedding_dim=2 * len(block.rotary.frequencies),
        )

    def _widened(self, rows: str, num_heads: int, block: Attention, fill: float) -> str:
        """Give each head one more component."""
        canvas, dim = self._canvas, block.head_dim
        heads = canvas.op("Reshape", rows, canvas.constant([0, 0, num_heads, dim]))
        pads = canvas.constant([0, 0, 0, 0, 0, 0, 0, 1])
        heads = canvas.op("Pad", heads, pads, canvas.constant(fill, np.float32))
        return canvas.op("Reshape", heads, canvas.constant([0, 0, num_heads * (dim + 1)]))

    def _repeated(self, rows: str, block: Attention, size: int) -> str:
        """Keys or values for each head of a group."""
        canvas, groups = self._canvas, block.num_heads // block.num_kv_heads
        if groups == 1:
            return rows
        heads = canvas.op("Reshape", rows, canvas.constant([0, 0, block.num_kv_heads, 1, size]))
        heads = canvas.op("Expand", heads, canvas.constant([1, 1, 1, groups, 1]))
        return canvas.op("Reshape", heads, canvas.constant([0, 0, block.num_heads * size]))
