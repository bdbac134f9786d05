"""Attention in CUDA's operators, in each of its forms."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from embedge.types import FloatArray
from embedge_export.families.structure import Attention, Norm
from embedge_export.graph.built.capped import capped
from embedge_export.graph.built.cuda_blocks import CudaBlocks
from embedge_export.graph.built.disentangled import distance_scores
from embedge_export.graph.built.linear import absorbed_bias, pair_order, projection, with_pairs_together

_MASKED = -3e4
"""Scores of what must not be seen; float16 ends at 65,504, and a row of infinities gives no softmax."""

_ROTATED_AT_ONCE = 256
"""Components that one group of threads rotates: with 64, a head, it takes 2.1 times as long, with 768 1.3 times."""


def _heads_in_one(block: Attention) -> int:
    """How many heads are rotated as one."""
    both = math.gcd(block.num_heads, block.num_kv_heads)
    return max(
        n
        for n in range(1, both + 1)
        if both % n == 0 and n * block.head_dim <= max(_ROTATED_AT_ONCE, block.head_dim)
    )


class CudaAttention:
    """Emits attention in the form that the blocks' choices name.

    Args:
        blocks: what emits the blocks around it, on the same rows.
    """

    def __init__(self, blocks: CudaBlocks) -> None:
        self._blocks = blocks
        self._canvas = blocks.canvas
        self._weights = blocks.weights
        self._choices = blocks.choices
        self._spans = ""
        self._narrow: dict[object, str] = {}

    def attend(self, rows: str, block: Attention) -> tuple[str, str | None]:
        """The block without the bias of its last product, and that bias."""
        output = projection(self._weights, block.output)
        forms = {"merged": self._merged, "standard": self._standard, "separate": self._separate}
        mixed = forms[self._choices.attention](rows, block)
        if self._choices.attention == "merged" or block.num_heads != block.num_kv_heads:
            bias, suffix = output.load_bias, "bias"
        else:
            # with the bias of the values in it
            bias, suffix = absorbed_bias(self._weights, block.output, block.value), "bias+value"
        result = self._canvas.op("MatMul", mixed, self._blocks.half(output.name, output.shape, output.load))
        if bias is None:
            return result, None
        return result, self._blocks.half(f"{output.name}.{suffix}", output.shape[1:], bias)

    def _standard(self, rows: str, block: Attention) -> str:
        """ONNX's Attention on (batch, seq_len, size): any heads, rotations and masks.

        Causal attention needs no mask of padding, as it comes after all that is real.
        """
        canvas = self._canvas
        scope = canvas.scope_name
        rotation = None if block.rotary is None else self._rotation(block)
        growth = None if block.growth is None else self._narrowed(self._blocks.positions.growth(block.growth))
        mask = self._capped_mask(block) if block.softcap is not None else self._score_mask(block)
        canvas.scope(scope)
        grouped = block.num_heads != block.num_kv_heads
        turned = grouped or block.rotary is not None or block.key_norm is not None
        turned = turned or block.disentangled is not None or block.softcap is not None
        query, key, value = self._products(rows, block, key_bias=turned, value_bias=grouped)
        query = self._turn(query, block.num_heads, block, block.query_norm, rotation)
        query = query if growth is None else canvas.op("Mul", query, growth)
        key = self._turn(key, block.num_kv_heads, block, block.key_norm, rotation)
        if block.softcap is not None:
            return capped(
                canvas, self._blocks.positions, block, (query, key, value), mask, self._blocks.dtype
            )
        if block.disentangled is not None:
            mask = self._distance_scores(query, key, block, mask)
        inputs = [query, key, value, mask, "", "", "" if block.causal else self._blocks.lengths]
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
        canvas = self._canvas
        matrices = [
            projection(self._weights, linear, bias=bias)
            for linear, bias in ((block.query, True), (block.key, key_bias), (block.value, value_bias))
        ]
        if block.rotary is not None:
            matrices[0] = with_pairs_together(matrices[0], block.num_heads)
            matrices[1] = with_pairs_together(matrices[1], block.num_kv_heads)
        if self._choices.split_matrices:
            weights = canvas.ops("Split", self._merged_weight(block), outputs=3, axis=1, num_outputs=3)
        else:
            weights = [self._blocks.half(matrix.name, matrix.shape, matrix.load) for matrix in matrices]
        return [
            self._blocks.add_bias(
                canvas.op("MatMul", rows, weight),
                matrix.load_bias
                and self._blocks.half(f"{matrix.name}.bias", matrix.shape[1:], matrix.load_bias),
            )
            for matrix, weight in zip(matrices, weights, strict=True)
        ]

    def _turn(
        self, rows: str, num_heads: int, block: Attention, norm: Norm | None, rotation: tuple[str, str] | None
    ) -> str:
        """Normalise and rotate each head of (batch, seq_len, num_heads * head_dim).

        The operator's time goes by its groups of threads, one for each head that it knows of: so it is told of few and
        wide ones, which are several heads each.
        """
        canvas = self._canvas
        packed = self._blocks.padding is not None
        kept = [0] if packed else [0, 0]
        size = num_heads * block.head_dim
        if norm is not None and block.norms_of == "all heads":
            rows = self._blocks.norm(rows, norm, None if rotation is None else pair_order(num_heads, size))
        elif norm is not None:
            heads = canvas.op("Reshape", rows, canvas.constant([*kept, num_heads, block.head_dim]))
            order = None if rotation is None else pair_order(1, block.head_dim)
            rows = self._blocks.norm(heads, norm, order)
            rows = canvas.op("Reshape", rows, canvas.constant([*kept, size]))
        if rotation is None:
            return rows
        num_wide = num_heads // _heads_in_one(block)
        first = canvas.constant([0])
        if not packed:
            return canvas.contrib(
                "RotaryEmbedding", rows, first, *rotation, num_heads=num_wide, interleaved=1
            )
        # ONNX's operator: onnxruntime's own takes no more rows than 65,535
        rows = canvas.op("Unsqueeze", rows, first)
        rows = canvas.op("RotaryEmbedding", rows, *rotation, num_heads=num_wide, interleaved=1)
        return canvas.op("Squeeze", rows, first)

    def _rotation(self, block: Attention) -> tuple[str, str]:
        """Cosines and sines in the graph's precision, of angles in float32, for as many heads as are turned as one."""
        assert block.rotary is not None
        wide = block.rotary.frequencies * _heads_in_one(block)
        made = self._blocks.positions.rotation(msgspec.structs.replace(block.rotary, frequencies=wide))
        cosines, sines = (self._narrowed(part) for part in made)
        if self._blocks.padding is None:
            return cosines, sines
        return self._blocks.of_packed(cosines), self._blocks.of_packed(sines)

    def _capped_mask(self, block: Attention) -> str:
        """What capped scores get added, padding's part included, (batch, 1, seq_len, seq_len)."""
        key = "capped", block.causal, block.window
        if key not in self._narrow:
            floor = self._canvas.constant(_MASKED, np.float32)
            self._narrow[key] = self._narrowed(
                self._canvas.op("Max", self._blocks.positions.bias(block), floor)
            )
        return self._narrow[key]

    def _score_mask(self, block: Attention, *, causality: bool = False) -> str:
        """What scores get added, (1, 1 or num_heads, seq_len, seq_len): windows, relative positions; "" for none.

        Causality is in it where something else is, or where it is asked for.
        """
        if block.window is None and not block.relative and not (block.causal and causality):
            return ""
        canvas, positions = self._canvas, self._blocks.positions
        key = block.causal, block.window, block.relative
        if key in self._narrow:
            return self._narrow[key]
        unseen = positions.unseen(block)
        parts = []
        if block.relative:
            parts.append(self._narrowed(positions.relative_bias()))
        if unseen is not None:
            low, zero = (canvas.constant(value, self._blocks.dtype) for value in (_MASKED, 0.0))
            hidden = canvas.op("Where", unseen, low, zero)
            parts.append(canvas.op("Unsqueeze", hidden, canvas.constant([0, 1])))
        self._narrow[key] = parts[0] if len(parts) == 1 else canvas.op("Add", *parts)
        return self._narrow[key]

    def _distance_scores(self, query: str, key: str, block: Attention, mask: str) -> str:
        """Scores of contents and distances, and the mask's where there is one."""
        canvas = self._canvas
        shape = canvas.constant([0, 0, block.num_heads, block.head_dim])
        q, k = (
            canvas.op("Transpose", canvas.op("Reshape", rows, shape), perm=[0, 2, 1, 3])
            for rows in (query, key)
        )
        near = distance_scores(
            canvas, self._weights, self._blocks.positions, block, (q, k), self._blocks.dtype
        )
        return canvas.op("Add", near, mask) if mask else near

    def _narrowed(self, floats: str) -> str:
        from onnx import helper

        if self._blocks.dtype == np.float32:
            return floats
        if floats not in self._narrow:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(self._blocks.dtype))
            self._narrow[floats] = self._canvas.op("Cast", floats, to=kind)
        return self._narrow[floats]

    def _separate(self, rows: str, block: Attention) -> str:
        """Three products, which attention reads as they are: it would copy a merged one to put its heads apart.

        A key's bias moves all scores of a query alike, and softmax takes it out, unless the key is turned; a value's
        goes to the output's, unless it is of several heads.
        """
        canvas = self._canvas
        scope = canvas.scope_name
        rotation = None if block.rotary is None else self._rotation(block)
        mask = self._score_mask(block, causality=True)
        canvas.scope(scope)
        turned = block.rotary is not None or block.key_norm is not None
        grouped = block.num_heads != block.num_kv_heads
        query, key, value = self._products(rows, block, key_bias=turned, value_bias=grouped)
        query = self._turn(query, block.num_heads, block, block.query_norm, rotation)
        key = self._turn(key, block.num_kv_heads, block, block.key_norm, rotation)
        if grouped:
            key, value = self._for_every_head(key, block), self._for_every_head(value, block)
        options = {"num_heads": block.num_heads, "scale": block.scale}
        bias = [mask] if mask else []
        if self._blocks.padding is not None:
            inputs = query, key, value, "", *self._blocks.padding, *bias
            return canvas.contrib("PackedMultiHeadAttention", *inputs, **options)
        inputs = query, key, value, "", self._key_lengths(), *bias
        return canvas.contrib("MultiHeadAttention", *inputs, **options)

    def _for_every_head(self, rows: str, block: Attention) -> str:
        """Keys or values of few heads, repeated for each head that reads them."""
        canvas = self._canvas
        kept = [0] if self._blocks.padding is not None else [0, 0]
        shape = [*kept, block.num_kv_heads, 1, block.head_dim]
        parts = [canvas.op("Reshape", rows, canvas.constant(shape))] * (block.num_heads // block.num_kv_heads)
        wide = canvas.op("Concat", *parts, axis=len(kept) + 1)
        return canvas.op("Reshape", wide, canvas.constant([*kept, block.num_heads * block.head_dim]))

    def _key_lengths(self) -> str:
        """Lengths, then starts of queries and of keys in rows without padding taken off: int32 (3 * batch + 2,)."""
        from onnx import TensorProto

        canvas = self._canvas
        if not self._spans:
            shape = canvas.op("Shape", "input_ids")
            batch = canvas.op("Gather", shape, canvas.constant(0))
            length = canvas.op("Gather", shape, canvas.constant(1))
            numbers = canvas.op(
                "Range", canvas.constant(0), canvas.op("Add", batch, canvas.constant(1)), canvas.constant(1)
            )
            starts = canvas.op("Cast", canvas.op("Mul", numbers, length), to=TensorProto.INT32)
            self._spans = canvas.op("Concat", self._blocks.lengths, starts, starts, axis=0)
        return self._spans

    def _merged(self, rows: str, block: Attention) -> str:
        """One product for queries, keys and values, inside of the operator."""
        canvas = self._canvas
        parts = [projection(self._weights, linear) for linear in (block.query, block.key, block.value)]
        outer = parts[0].shape[1]

        def load_bias() -> FloatArray:
            return np.concatenate(
                [
                    np.zeros(outer, np.float32) if part.load_bias is None else part.load_bias()
                    for part in parts
                ]
            )

        weight = self._merged_weight(block)
        bias = self._blocks.half(f"{weight}.bias", (3 * outer,), load_bias)
        options = {"num_heads": block.num_heads, "scale": block.scale}
        if self._blocks.padding is not None:
            return canvas.contrib("PackedAttention", rows, weight, bias, *self._blocks.padding, **options)
        return canvas.contrib("Attention", rows, weight, bias, self._blocks.lengths, **options)

    def _merged_weight(self, block: Attention) -> str:
        parts = [projection(self._weights, linear) for linear in (block.query, block.key, block.value)]
        inner, outer = parts[0].shape
        return self._blocks.half(
            "+".join(part.name for part in parts),
            (inner, 3 * outer),
            lambda: np.concatenate([part.load() for part in parts], axis=1),
        )
