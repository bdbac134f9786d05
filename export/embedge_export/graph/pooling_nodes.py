"""Pooling and the modules around it as ONNX nodes, appended to a graph that gives hidden states.

The same code serves every graph, whoever built it: it needs the name of an output (batch, seq_len, size) and
the input attention_mask, and computes in float32 whatever the graph's precision. The formulas are those of
embedge._rows.pooling and embedge._rows.heads; tests/export/graph/test_pooling_nodes.py compares each with its twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from embedge.types import FloatArray, PoolingMode
from embedge_export.activations import MODULE_ACTIVATIONS

if TYPE_CHECKING:
    import onnx

_NORM_FLOOR = 1e-12
_LAYER_NORM_EPS = 1e-5
_FLOOR = float(np.finfo(np.float32).min)


class PoolingNodes:
    """Appends nodes to a graph under names of their own.

    Args:
        model: the graph; it is changed in place.
        mask: name of the attention mask, int64 (batch, seq_len).
    """

    def __init__(self, model: onnx.ModelProto, mask: str = "attention_mask") -> None:
        self.model = model
        self.graph = model.graph
        self.opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
        self._mask_input = mask
        self._masks: dict[str, str] = {}
        self._count = 0

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append one node and return the name of its output."""
        from onnx import helper

        self._count += 1
        name = f"/embedge/{kind}_{self._count}"
        result = output or f"{name}_output"
        self.graph.node.append(helper.make_node(kind, list(inputs), [result], name=name, **attributes))
        return result

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Append an initializer and return its name."""
        from onnx import numpy_helper

        self._count += 1
        name = f"embedge.constant_{self._count}"
        self.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=dtype, order="C"), name))
        return name

    def output(self, name: str, shape: Sequence[str | int]) -> str:
        """Declare a float32 output of the graph."""
        from onnx import TensorProto, helper

        self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def float32(self, name: str) -> str:
        """Cast to float32."""
        from onnx import TensorProto

        return self.op("Cast", name, to=TensorProto.FLOAT)

    def mask(self) -> str:
        """The attention mask as float32 (batch, seq_len)."""
        if "float" not in self._masks:
            self._masks["float"] = self.float32(self._mask_input)
        return self._masks["float"]

    def pool(self, hidden: str, modes: Sequence[PoolingMode], output: str | None = None) -> str:
        """Pool (batch, seq_len, size) by every mode and concatenate to (batch, size * len(modes))."""
        pooled = [_POOLERS[mode](self, hidden) for mode in modes]
        if len(pooled) > 1:
            return self.op("Concat", *pooled, axis=1, output=output)
        return self.op("Identity", pooled[0], output=output) if output else pooled[0]

    def dense(
        self,
        rows: str,
        weight: FloatArray,
        bias: FloatArray | None,
        activation: str,
        output: str | None = None,
    ) -> str:
        """Multiply (…, in_features) by weight (out_features, in_features), add the bias, activate."""
        linear = self.op("MatMul", rows, self.constant(weight.T, np.float32))
        if bias is not None:
            linear = self.op("Add", linear, self.constant(bias, np.float32))
        activated = MODULE_ACTIVATIONS[activation](self, linear)
        return self.op("Identity", activated, output=output) if output else activated

    def residual(self, made: str, rows: str, weight: FloatArray | None) -> str:
        """Add the rows that a module was given to what it made of them, through a weight where sizes differ."""
        if weight is not None:
            rows = self.op("MatMul", rows, self.constant(weight.T, np.float32))
        return self.op("Add", made, rows)

    def normalize(self, rows: str) -> str:
        """Scale (…, size) to unit length, the norm clamped at 1e-12."""
        square = self._over_last("ReduceSum", self.op("Mul", rows, rows))
        floor = self.constant(_NORM_FLOOR, np.float32)
        return self.op("Div", rows, self.op("Max", self.op("Sqrt", square), floor))

    def layer_norm(self, rows: str, weight: FloatArray, bias: FloatArray | None) -> str:
        """Give (…, size) mean 0 and variance 1, then scale and shift each component."""
        centred = self.op("Sub", rows, self._over_last("ReduceMean", rows))
        variance = self._over_last("ReduceMean", self.op("Mul", centred, centred))
        deviation = self.op("Sqrt", self.op("Add", variance, self.constant(_LAYER_NORM_EPS, np.float32)))
        scaled = self.op("Mul", self.op("Div", centred, deviation), self.constant(weight, np.float32))
        return scaled if bias is None else self.op("Add", scaled, self.constant(bias, np.float32))

    def splade(self, logits: str, *, strategy: str, twice: bool, output: str | None = None) -> str:
        """Term weights (batch, vocab_size) of masked-language-model logits: log1p(relu) and the maximum or sum."""
        # padding is set to 0, below which relu leaves nothing
        masked = self.op("Mul", logits, self.op("Unsqueeze", self.mask(), self.constant([2])))
        one = self.constant(1.0, np.float32)
        weights = self.op("Log", self.op("Add", self.op("Relu", masked), one))
        if twice:
            weights = self.op("Log", self.op("Add", weights, one))
        return self._reduce("ReduceMax" if strategy == "max" else "ReduceSum", weights, output=output)

    def _real(self) -> str:
        """Where tokens are real, bool (batch, seq_len)."""
        return self.op("Greater", self.mask(), self.constant(0, np.float32))

    def _reduce(self, kind: str, rows: str, keepdims: int = 0, output: str | None = None) -> str:
        if kind in ("ReduceMax", "ReduceMin") and self.opset < 18:
            return self.op(kind, rows, axes=[1], keepdims=keepdims, output=output)
        return self.op(kind, rows, self.constant([1]), keepdims=keepdims, output=output)

    def _over_last(self, kind: str, rows: str) -> str:
        """Reduce the last axis and keep it."""
        if kind == "ReduceMean" and self.opset < 18:
            return self.op(kind, rows, axes=[-1], keepdims=1)
        return self.op(kind, rows, self.constant([-1]), keepdims=1)

    def _weighted_sum(self, hidden: str, weights: str) -> str:
        # (batch, 1, seq_len) @ (batch, seq_len, size)
        product = self.op("MatMul", self.op("Unsqueeze", weights, self.constant([1])), hidden)
        return self.op("Squeeze", product, self.constant([1]))

    def _take(self, hidden: str, position: str) -> str:
        """One row of each text, at a float32 position (batch, 1)."""
        from onnx import TensorProto

        return self.op("GatherND", hidden, self.op("Cast", position, to=TensorProto.INT64), batch_dims=1)

    def _positions(self) -> str:
        """0, 1, … up to the padded length, float32 (seq_len,)."""
        if "positions" not in self._masks:
            length = self.op("Gather", self.op("Shape", self._mask_input), self.constant(1))
            positions = self.op("Range", self.constant(0), length, self.constant(1))
            self._masks["positions"] = self.float32(positions)
        return self._masks["positions"]

    # ArgMax would do for both, but CUDA's takes any of equal values, or none where the last is asked for
    def _first(self, hidden: str) -> str:
        beyond = self.constant(-_FLOOR, np.float32)
        positions = self.op("Where", self._real(), self._positions(), beyond)
        return self._take(hidden, self._reduce("ReduceMin", positions, 1))

    def _last(self, hidden: str) -> str:
        positions = self.op("Mul", self._positions(), self.mask())
        return self._take(hidden, self._reduce("ReduceMax", positions, 1))

    def last_but(self, hidden: str, passed_over_id: int | None) -> str:
        """The last real token's row that is not of an id, or the first one's where all are: (batch, size)."""
        if passed_over_id is None:
            return self._last(hidden)
        other = self.op("Not", self.op("Equal", "input_ids", self.constant(passed_over_id)))
        beyond = self.constant(-_FLOOR, np.float32)
        positions = self.op("Where", self._real(), self._positions(), beyond)
        first = self._reduce("ReduceMin", positions, 1)
        read = self.op("Mul", self.op("Mul", self._positions(), self.mask()), self.float32(other))
        return self._take(hidden, self.op("Max", self._reduce("ReduceMax", read, 1), first))

    def _mean(self, hidden: str) -> str:
        # a row has a real token unless model2vec's unknown ones were taken out: then the mean is 0
        count = self.op("Max", self._reduce("ReduceSum", self.mask(), 1), self.constant(1, np.float32))
        return self.op("Div", self._weighted_sum(hidden, self.mask()), count)

    def _mean_sqrt_len(self, hidden: str) -> str:
        count = self._reduce("ReduceSum", self.mask(), 1)
        return self.op("Div", self._weighted_sum(hidden, self.mask()), self.op("Sqrt", count))

    def _weighted_mean(self, hidden: str) -> str:
        positions = self.op("CumSum", self.mask(), self.constant(1))
        weights = self.op("Mul", positions, self.mask())
        return self.op("Div", self._weighted_sum(hidden, weights), self._reduce("ReduceSum", weights, 1))

    def _max(self, hidden: str) -> str:
        real = self.op("Unsqueeze", self._real(), self.constant([2]))
        return self._reduce("ReduceMax", self.op("Where", real, hidden, self.constant(_FLOOR, np.float32)))


_POOLERS: dict[PoolingMode, Callable[[PoolingNodes, str], str]] = {
    "CLS": PoolingNodes._first,
    "LAST": PoolingNodes._last,
    "MEAN": PoolingNodes._mean,
    "MAX": PoolingNodes._max,
    "MEAN_SQRT_LEN": PoolingNodes._mean_sqrt_len,
    "WEIGHTEDMEAN": PoolingNodes._weighted_mean,
}
