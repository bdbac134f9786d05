"""Everything that depends on positions alone, computed once per run: masks, rotations, relative positions."""

from __future__ import annotations

import math

import numpy as np

from embedge_export.families.structure import Attention, Growth, LearntPositions, RelativeBias, Rotary
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.weights import Weights

POSITIONS_SCOPE = "places"
"""Where these nodes are named."""
# far below any score, far above float32's smallest: a row with nothing to see stays finite
MASKED = -1e9


class PositionNodes:
    """Emits what attention needs to know of positions, each thing once.

    Args:
        canvas: the graph.
        weights: the checkpoint.
        relative: the encoder's relative positions, if any.
        first: position of a text's first token, an int64 scalar; None for 0.
    """

    def __init__(
        self, canvas: Canvas, weights: Weights, relative: RelativeBias | None, first: str | None = None
    ) -> None:
        self._canvas = canvas
        self._first = first
        self._weights = weights
        self._relative = relative
        self._made: dict[object, str] = {}

    def mask(self) -> str:
        """attention_mask as float32 (batch, seq_len)."""
        if "mask" not in self._made:
            from onnx import TensorProto

            self._canvas.scope(POSITIONS_SCOPE)
            self._made["mask"] = self._canvas.op("Cast", "attention_mask", to=TensorProto.FLOAT)
        return self._made["mask"]

    def seq_len(self) -> str:
        """Padded length, int64 (1,)."""
        if "seq_len" not in self._made:
            self._canvas.scope(POSITIONS_SCOPE)
            self._made["seq_len"] = self._canvas.op("Shape", "input_ids", start=1, end=2)
        return self._made["seq_len"]

    def positions(self) -> str:
        """0, 1, … up to the padded length, int64 (seq_len,)."""
        if "range" not in self._made:
            canvas = self._canvas
            length = canvas.op("Squeeze", self.seq_len())
            self._made["range"] = canvas.op("Range", canvas.constant(0), length, canvas.constant(1))
        return self._made["range"]

    def places(self) -> str:
        """Positions counted with what comes before the texts, int64 (seq_len,)."""
        if self._first is None:
            return self.positions()
        if "places" not in self._made:
            positions = self.positions()
            self._canvas.scope(POSITIONS_SCOPE)
            self._made["places"] = self._canvas.op("Add", positions, self._first)
        return self._made["places"]

    def distances(self) -> str:
        """Position of the key minus that of the query, int64 (seq_len, seq_len)."""
        if "distances" not in self._made:
            canvas = self._canvas
            positions = self.positions()
            columns = canvas.op("Unsqueeze", positions, canvas.constant([1]))
            self._made["distances"] = canvas.op("Sub", positions, columns)
        return self._made["distances"]

    def head_mask(self, num_heads: int, head_dim: int, scale: float) -> str:
        """What keys get added, (batch, seq_len, num_heads * (head_dim + 1)): 0, and in padding's last component MASKED.

        The scores are multiplied by `scale` afterwards, so the component is divided by it.
        """
        key = ("head", num_heads, head_dim, scale)
        if key not in self._made:
            canvas = self._canvas
            mask = self.mask()
            below = canvas.op("Sub", mask, canvas.constant(1.0, np.float32))
            component = np.zeros((num_heads, head_dim + 1), np.float32)
            component[:, -1] = 1e4 / scale
            self._made[key] = canvas.op(
                "Mul",
                canvas.op("Unsqueeze", below, canvas.constant([2])),
                canvas.constant(component.reshape(-1), np.float32),
            )
        return self._made[key]

    def causal_length(self) -> str:
        """Padded length, int64 (1,), of texts that causal attention takes whole rows of.

        No real token sees the padding after it. Reading the length fails where padding is elsewhere.
        """
        if "causal" not in self._made:
            canvas, length = self._canvas, self.seq_len()
            positions = self.positions()
            canvas.scope(POSITIONS_SCOPE)
            one = canvas.constant([1])
            ends = canvas.op("Mul", "attention_mask", canvas.op("Add", positions, one))
            gaps = canvas.op(
                "Sub",
                canvas.op("ReduceMax", ends, one, keepdims=0),
                canvas.op("ReduceSum", "attention_mask", one, keepdims=0),
            )
            # there is no second number to take
            none = canvas.op("Gather", canvas.constant([0]), gaps)
            none = canvas.op("ReduceMax", none, canvas.constant([0]), keepdims=1)
            self._made["causal"] = canvas.op("Add", none, length)
        return self._made["causal"]

    def causal_lengths(self) -> tuple[str, str]:
        """What GroupQueryAttention asks for: the last position of each text, int32 (batch,), and the padded length.

        Every text takes all of its row; see `causal_length`.
        """
        if "last" not in self._made:
            from onnx import TensorProto

            canvas, length = self._canvas, self.causal_length()
            canvas.scope(POSITIONS_SCOPE)
            batch = canvas.op("Shape", "input_ids", start=0, end=1)
            last = canvas.op("Expand", canvas.op("Sub", length, canvas.constant([1])), batch)
            self._made["last"] = canvas.op("Cast", last, to=TensorProto.INT32)
            self._made["total"] = canvas.op("Cast", canvas.op("Squeeze", length), to=TensorProto.INT32)
        return self._made["last"], self._made["total"]

    def bias(self, attention: Attention) -> str:
        """What scores get added: float32, (batch, 1, 1 or seq_len, seq_len), or with a number for each head."""
        key = ("bias", attention.causal, attention.window, attention.relative)
        if key in self._made:
            return self._made[key]
        canvas = self._canvas
        mask = self.mask()
        canvas.scope(POSITIONS_SCOPE)
        one = canvas.constant(1.0, np.float32)
        hidden = canvas.op("Unsqueeze", canvas.op("Sub", one, mask), canvas.constant([1, 2]))
        bias = canvas.op("Mul", hidden, canvas.constant(MASKED, np.float32))
        unseen = self.unseen(attention)
        if unseen is not None:
            low, zero = canvas.constant(MASKED, np.float32), canvas.constant(0.0, np.float32)
            # the smaller of the two, so that nothing falls out of float32's range
            bias = canvas.op("Min", bias, canvas.op("Where", unseen, low, zero))
        if attention.relative:
            bias = canvas.op("Add", bias, self.relative_bias())
        self._made[key] = bias
        return bias

    def unseen(self, attention: Attention) -> str | None:
        """Pairs of positions that causality or a window hides, bool (seq_len, seq_len); None where there are none."""
        self._canvas.scope(POSITIONS_SCOPE)
        before, after = attention.window or (None, None)
        if attention.causal:
            after = 0
        parts = []
        if after is not None:
            parts.append(self._canvas.op("Greater", self.distances(), self._canvas.constant(after)))
        if before is not None:
            parts.append(self._canvas.op("Less", self.distances(), self._canvas.constant(-before)))
        if len(parts) == 2:
            return self._canvas.op("Or", *parts)
        return parts[0] if parts else None

    def relative_bias(self) -> str:
        """What scores get added, float32 (1, num_heads, seq_len, seq_len), by the logarithmic buckets of T5."""
        from onnx import TensorProto

        canvas, relative = self._canvas, self._relative
        assert relative is not None
        canvas.scope(POSITIONS_SCOPE)
        table = relative.table
        half = table.shape[0] // 2
        exact = half // 2
        distances = self.distances()
        later = canvas.op("Cast", canvas.op("Greater", distances, canvas.constant(0)), to=TensorProto.INT64)
        length = canvas.op("Abs", distances)
        floats = canvas.op("Cast", canvas.op("Max", length, canvas.constant(1)), to=TensorProto.FLOAT)
        ratio = canvas.op("Log", canvas.op("Div", floats, canvas.constant(float(exact), np.float32)))
        # divided and multiplied in the reference's order: a bucket's edge must fall on the same side
        ratio = canvas.op("Div", ratio, canvas.constant(math.log(relative.max_distance / exact), np.float32))
        far = canvas.op(
            "Cast",
            canvas.op("Mul", ratio, canvas.constant(float(half - exact), np.float32)),
            to=TensorProto.INT64,
        )
        far = canvas.op("Min", canvas.op("Add", far, canvas.constant(exact)), canvas.constant(half - 1))
        near = canvas.op("Less", length, canvas.constant(exact))
        bucket = canvas.op("Where", near, length, far)
        bucket = canvas.op("Add", bucket, canvas.op("Mul", later, canvas.constant(half)))
        rows = canvas.weight(table.name, table.shape, lambda: self._weights.read(table))
        values = canvas.op("Gather", rows, bucket)  # (seq_len, seq_len, num_heads)
        return canvas.op("Unsqueeze", canvas.op("Transpose", values, perm=[2, 0, 1]), canvas.constant([0]))

    def distance_rows(self, row_at: tuple[int, ...], num_heads: int) -> tuple[str, str, str]:
        """Which rows of a table the distances within the padded length have.

        Args:
            row_at: row of each distance, as structure.Disentangled has it.
            num_heads: of attention.

        Returns:
            The first row and the one after the last, int64 (1,); and for each pair of positions its row after the
            first, int32 (batch, num_heads, seq_len, seq_len), by the query's position minus the key's.
        """
        key = ("distance rows", row_at, num_heads)
        if key not in self._made:
            from onnx import TensorProto

            canvas = self._canvas
            length, apart = self.seq_len(), self.distances()
            canvas.scope(POSITIONS_SCOPE)
            last = canvas.constant(len(row_at) // 2)
            rows = canvas.constant(row_at)
            reach = canvas.op("Min", canvas.op("Sub", length, canvas.constant([1])), last)
            first = canvas.op("Gather", rows, canvas.op("Sub", last, reach))
            stop = canvas.op("Gather", rows, canvas.op("Add", last, reach))
            near = canvas.op("Clip", canvas.op("Neg", apart), canvas.op("Neg", last), last)
            index = canvas.op("Sub", canvas.op("Gather", rows, canvas.op("Add", near, last)), first)
            index = canvas.op("Cast", index, to=TensorProto.INT32)
            batch = canvas.op("Shape", "input_ids", start=0, end=1)
            shape = canvas.op("Concat", batch, canvas.constant([num_heads]), length, length, axis=0)
            self._made[key] = first
            self._made[(*key, "stop")] = canvas.op("Add", stop, canvas.constant([1]))
            self._made[(*key, "index")] = canvas.op("Expand", index, shape)
        return self._made[key], self._made[(*key, "stop")], self._made[(*key, "index")]

    def rotation(self, rotary: Rotary) -> tuple[str, str]:
        """Cosines and sines, float32 (seq_len, number of pairs)."""
        key = ("rotary", rotary)
        if key not in self._made:
            from onnx import TensorProto

            canvas = self._canvas
            canvas.scope(POSITIONS_SCOPE)
            positions = canvas.op("Cast", self.places(), to=TensorProto.FLOAT)
            frequencies = canvas.constant([rotary.frequencies], np.float32)
            angles = canvas.op("Mul", canvas.op("Unsqueeze", positions, canvas.constant([1])), frequencies)
            made = [canvas.op(kind, angles) for kind in ("Cos", "Sin")]
            if rotary.scale != 1.0:
                made = [canvas.op("Mul", part, canvas.constant(rotary.scale, np.float32)) for part in made]
            self._made[key], self._made[(*key, "sin")] = made
        return self._made[key], self._made[("rotary", rotary, "sin")]

    def growth(self, growth: Growth) -> str:
        """What queries are multiplied by, float32 (seq_len, 1)."""
        if growth not in self._made:
            from onnx import TensorProto

            canvas = self._canvas
            turns = canvas.op("Div", self.places(), canvas.constant(growth.length))
            canvas.scope(POSITIONS_SCOPE)
            one, rate = canvas.constant(1.0, np.float32), canvas.constant(growth.rate, np.float32)
            logarithm = canvas.op(
                "Log", canvas.op("Add", canvas.op("Cast", turns, to=TensorProto.FLOAT), one)
            )
            factors = canvas.op("Add", canvas.op("Mul", logarithm, rate), one)
            self._made[growth] = canvas.op("Unsqueeze", factors, canvas.constant([1]))
        return self._made[growth]

    def position_ids(self, learnt: LearntPositions) -> str:
        """Rows of the position table: (seq_len,) or (batch, seq_len)."""
        from onnx import TensorProto

        if learnt.kind == "range":
            return self.positions()
        canvas = self._canvas
        canvas.scope(POSITIONS_SCOPE)
        padding = canvas.constant(learnt.padding_id)
        real = canvas.op(
            "Cast", canvas.op("Not", canvas.op("Equal", "input_ids", padding)), to=TensorProto.INT64
        )
        counted = canvas.op("CumSum", real, canvas.constant(1))
        return canvas.op("Add", canvas.op("Mul", counted, real), padding)
