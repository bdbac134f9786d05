"""int8 of any float32 graph: each product of activations with a stored matrix in 8 bits, in the form that suits it.

Every column of a matrix has a scale of its own. The rows that it multiplies are quantised in one of these forms, none
of which lets a text's vector depend on what else is in the batch (dynamic quantisation per tensor, which onnxruntime
and optimum offer, does):

- fixed, after a normalisation or attention: one scale measured beforehand, since such rows are alike; channels that
  stand out are smoothed into the weights. No pass over the activations looks for a scale, and the bias goes into the
  product. After attention smoothing costs nothing: the weights that its values come from are divided instead.
- floored, after GELU or ReLU: one scale per token, from its largest value, and nearly all 256 steps for what is
  above 0.
- token: one scale per token, from its largest absolute value; smoothed, where that alone is not enough.

The first of the forms that computes the product closely enough on rows of the calibration texts is taken; where none
does, the product stays in float32. benchmarks/operators times what each form costs.

Source: SmoothQuant (Xiao et al., 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.errors import ExportError
from embedge.types import FloatArray, IntArray
from embedge_export.variants.editor import GraphEditor, Product

if TYPE_CHECKING:
    import onnx

DISABLED_OPTIMIZERS = ("SkipLayerNormFusion",)
"""onnxruntime's fusion of addition and normalisation takes longer than what it replaces on the CPU."""

SMALLEST_PRODUCT = 64 * 64
_SMALLEST_TABLE = 1000
SMALLEST_SCALE = 1e-10
_LARGEST_ERROR = 0.03
"""Of a product, relative to its norm, over rows of the calibration texts; MiniLM's are 0.005 to 0.02."""

_FIXED_SMOOTHING, _TOKEN_SMOOTHING = 0.7, 0.5
"""SmoothQuant's alpha: 0.7 evens out a fixed scale's channels, 0.5 shares the burden with the weights."""

_SAMPLE_ROWS = 128
_NORMS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")
_FLOORS = {"Gelu": 0.17, "Relu": 0.0}
"""How far below 0 an activation can go."""
_BELOW = 24
"""Steps for what is below 0: enough for GELU's 0.17 at the scale of a largest value of 1.7, where MiniLM's begin."""

Form: TypeAlias = Literal["fixed", "floored", "token", "smoothed token", "float32"]


class Activations(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What an activation was over the calibration texts.

    Attributes:
        peak: largest absolute value of each channel, float32 (channels,).
        sample: some of its rows, float32 (rows, channels).
    """

    peak: FloatArray
    sample: FloatArray


def calibrate(graph: Path, feeds: Sequence[Mapping[str, IntArray]]) -> dict[str, Activations]:
    """Look at the activations that int8 quantises.

    Args:
        graph: file of a float32 graph.
        feeds: inputs of some real texts, each int64 (1, seq_len).

    Returns:
        By tensor name.
    """
    from embedge.runtime import open_on_cpu

    editor = GraphEditor.open(graph)
    names = sorted({product.rows for product in editor.products(SMALLEST_PRODUCT)})
    editor.expose(names)
    # beside the graph, where its external data is found
    exposed = graph.with_name(f".{graph.name}")
    exposed.write_bytes(editor.serialize())
    try:
        session = open_on_cpu(exposed)
    finally:
        exposed.unlink()
    random = np.random.default_rng(0)
    per_feed = -(-_SAMPLE_ROWS // max(1, len(feeds)))
    peaks: dict[str, FloatArray] = {}
    samples: dict[str, list[FloatArray]] = {name: [] for name in names}
    for feed in feeds:
        for name, rows in zip(names, session.run(names, dict(feed)), strict=True):
            flat = rows.reshape(-1, rows.shape[-1])
            peak = np.abs(flat).max(axis=0)
            peaks[name] = np.maximum(peak, peaks.get(name, peak))
            samples[name].append(flat[random.permutation(len(flat))[:per_feed]])
    return {name: Activations(peak=peaks[name], sample=np.concatenate(samples[name])) for name in peaks}


class Quantised(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An int8 graph, and how many of its products have which form."""

    graph: onnx.ModelProto
    forms: dict[Form, int]


def int8(editor: GraphEditor, activations: Mapping[str, Activations], *, unsigned: bool = False) -> Quantised:
    """Quantise products, and embedding tables per row.

    Args:
        editor: of a float32 graph, which is left as it is.
        activations: what `calibrate` returned; one that is missing is quantised per token, unseen.
        unsigned: store weights as uint8 around 128. Processors without VNNI add pairs of products of uint8 and int8
            in 16 bits, which overflow; products of uint8 with uint8 take another way there, slower and exact.

    Raises:
        ExportError: the graph has nothing to quantise.
    """
    products = editor.products(SMALLEST_PRODUCT)
    if not products:
        raise ExportError(
            "the graph has no product with a stored matrix, so there is no int8 variant of it. Omit int8."
        )
    editor.require_contrib_ops()
    by_rows: dict[str, list[Product]] = {}
    for product in products:
        by_rows.setdefault(product.rows, []).append(product)
    values = editor.attention_values(products)
    divisors: dict[str, FloatArray] = {}
    quantisers = []
    written: set[str] = set()
    forms: dict[Form, int] = {}
    for rows, sharing in by_rows.items():
        before = rows in values and values[rows].matrix in written
        quantiser = _Quantiser(
            editor, sharing, activations.get(rows), unsigned=unsigned, smoothed_before=before
        )
        if quantiser.smoothed_before and quantiser.form == "fixed":
            divisors[values[rows].matrix] = quantiser.smoothing
        if quantiser.form != "float32":
            written.update(product.matrix for product in sharing)
        forms[quantiser.form] = forms.get(quantiser.form, 0) + len(sharing)
        quantisers.append(quantiser)
    for quantiser in quantisers:
        quantiser.quantise(divisors)
    quantise_tables(editor)
    return Quantised(graph=editor.finish(), forms=forms)


def quantise_tables(editor: GraphEditor) -> None:
    """Store embedding tables as int8 with one scale per row."""
    for table in editor.tables(_SMALLEST_TABLE):
        values = editor.array(table.matrix)
        scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), SMALLEST_SCALE) / 127
        stored = editor.weight(f"{table.matrix}.int8", np.rint(values / scales).astype(np.int8))
        row_scales = editor.weight(f"{table.matrix}.scales", scales.astype(np.float32))
        editor.replace(
            table,
            [
                editor.node("Gather", [stored, table.rows], f"{table.output}.int8", axis=0),
                editor.node("Cast", [f"{table.output}.int8"], f"{table.output}.float", to=1),
                editor.node("Gather", [row_scales, table.rows], f"{table.output}.scales", axis=0),
                editor.node("Mul", [f"{table.output}.float", f"{table.output}.scales"], table.output),
            ],
        )


class _Quantiser:
    """Quantises one activation and its products.

    Args:
        editor: of the graph.
        sharing: the products of the activation.
        seen: the activation over the calibration texts.
        unsigned: see `int8`.
        smoothed_before: the activation's channels can be divided where it comes from.

    Attributes:
        form: the first that is close enough.
        smoothing: what it divides each channel by.
        smoothed_before: as given.
    """

    def __init__(
        self,
        editor: GraphEditor,
        sharing: Sequence[Product],
        seen: Activations | None,
        *,
        unsigned: bool,
        smoothed_before: bool = False,
    ) -> None:
        self._editor = editor
        self._sharing = list(sharing)
        self._unsigned = unsigned
        self._rows = sharing[0].rows
        self._matrices = self._read()
        channels = len(self._matrices[0])
        self._seen = None if seen is None or seen.peak.shape != (channels,) else seen
        self.smoothed_before = smoothed_before
        self._floor = _FLOORS.get(sharing[0].producer)
        self.form, self.smoothing = self._choose()
        self._matrices.clear()  # one activation's are in memory at a time

    def _read(self) -> list[FloatArray]:
        return [self._editor.array(product.matrix) for product in self._sharing]

    def _choose(self) -> tuple[Form, FloatArray]:
        ones = np.ones(len(self._matrices[0]), dtype=np.float32)
        if self._seen is None:
            return "token" if self._floor is None else "floored", ones
        if self._floor is not None:
            forms: list[tuple[Form, FloatArray]] = [("floored", ones)]
        elif self.smoothed_before or self._sharing[0].producer in _NORMS:
            forms = [("fixed", self._smoothing(self._seen, _FIXED_SMOOTHING)), ("token", ones)]
        else:
            forms = [("token", ones)]
        forms.append(("smoothed token", self._smoothing(self._seen, _TOKEN_SMOOTHING)))
        for form, smoothing in forms:
            if self._error(self._seen, form, smoothing, self._floor) <= _LARGEST_ERROR:
                return form, smoothing
        return "float32", ones

    def quantise(self, divisors: Mapping[str, FloatArray]) -> None:
        """Write the form's nodes.

        Args:
            divisors: what the columns of a matrix are divided by first, by its name.
        """
        if self.form == "float32":
            return
        self._matrices = self._read()
        for i, product in enumerate(self._sharing):
            if product.matrix not in divisors:
                continue
            by = divisors[product.matrix]
            self._matrices[i] = self._matrices[i] / by
            if product.bias is not None:
                bias = self._editor.weight(f"{product.bias}.divided", self._editor.array(product.bias) / by)
                self._sharing[i] = msgspec.structs.replace(product, bias=bias)
        if self.form == "fixed":
            assert self._seen is not None
            self._fixed(self._seen, self.smoothing)
        else:
            self._by_token(self.smoothing, self._floor if self.form == "floored" else None)
        self._matrices.clear()

    def _smoothing(self, seen: Activations, alpha: float) -> FloatArray:
        """What activations are divided by and weights multiplied with, one value per channel."""
        weights = np.max([np.abs(matrix).max(axis=1) for matrix in self._matrices], axis=0)
        factors = np.maximum(seen.peak, 1e-5) ** alpha / np.maximum(weights, 1e-5) ** (1 - alpha)
        return np.clip(factors, 1e-4, 1e4).astype(np.float32)

    def _error(self, seen: Activations, form: Form, smoothing: FloatArray, floor: float | None) -> float:
        """Largest error of a product over the sample, relative to how much its rows differ from each other."""
        rows = seen.sample / smoothing
        if form == "fixed":
            scales, zero = np.float32(_fixed_scale(seen, smoothing)), 128
        elif form == "floored":
            assert floor is not None
            zero = _below(floor)
            scales = np.maximum(rows.max(axis=1, keepdims=True) / (255 - zero), _least_scale(floor))
        else:
            scales, zero = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, SMALLEST_SCALE), 128
        stored = (np.clip(np.rint(rows / scales), -zero, 255 - zero)) * scales
        errors = []
        for matrix in self._matrices:
            values, columns = _columns(matrix * smoothing[:, None])
            exact = seen.sample @ matrix
            error = float(np.linalg.norm(stored @ (values * columns) - exact))
            # what all rows have in common tells nothing apart, and must not hide an error
            errors.append(error / max(float(np.linalg.norm(exact - exact.mean(axis=0))), 1e-30))
        return max(errors)

    def _fixed(self, seen: Activations, smoothing: FloatArray) -> None:
        editor, name = self._editor, f"{self._rows}.int8"
        rows, nodes = (self._rows, []) if self.smoothed_before else self._smooth(smoothing)
        zero = editor.weight("int8.zero_point", np.uint8(128))
        scale = editor.weight(f"{name}.scale", np.float32(_fixed_scale(seen, smoothing)))
        editor.insert(
            self._sharing[0].node, [*nodes, editor.node("QuantizeLinear", [rows, scale, zero], name)]
        )
        for product, matrix in zip(self._sharing, self._matrices, strict=True):
            smoothed = matrix * smoothing[:, None]
            editor.replace(
                product, [self._product(product, smoothed, name, scale, zero, product.output, product.bias)]
            )

    def _by_token(self, smoothing: FloatArray, floor: float | None) -> None:
        editor, name = self._editor, f"{self._rows}.int8"
        rows, nodes = self._smooth(smoothing)
        nodes += self._scales(rows, name, floor)
        zero = editor.weight(f"int8.zero_point_{_below(floor)}", np.uint8(_below(floor)))
        # QuantizeLinear takes one scale per row of a matrix, which is faster than dividing first
        matrix = editor.weight(f"{name}.rows_of", np.array([-1, len(self._matrices[0])], dtype=np.int64))
        flat = editor.weight("int8.flat", np.array([-1], dtype=np.int64))
        nodes += [
            editor.node("Reshape", [rows, matrix], f"{name}.rows"),
            editor.node("Reshape", [f"{name}.scale", flat], f"{name}.scales"),
            editor.node("Shape", [f"{name}.scales"], f"{name}.count"),
            editor.node("Expand", [zero, f"{name}.count"], f"{name}.zeros"),
            editor.node(
                "QuantizeLinear",
                [f"{name}.rows", f"{name}.scales", f"{name}.zeros"],
                f"{name}.matrix",
                axis=0,
            ),
            editor.node("Shape", [rows], f"{name}.shape"),
            editor.node("Reshape", [f"{name}.matrix", f"{name}.shape"], name),
        ]
        editor.insert(self._sharing[0].node, nodes)
        one = editor.weight("int8.one", np.float32(1))
        for product, values in zip(self._sharing, self._matrices, strict=True):
            result, scaled = f"{product.output}.int8", f"{product.output}.scaled"
            last = product.output if product.bias is None else scaled
            replaced = [
                self._product(product, values * smoothing[:, None], name, one, zero, result),
                editor.node("Mul", [result, f"{name}.scale"], last),
            ]
            if product.bias is not None:
                replaced.append(editor.node("Add", [scaled, product.bias], product.output))
            editor.replace(product, replaced)

    def _smooth(self, smoothing: FloatArray) -> tuple[str, list[onnx.NodeProto]]:
        if np.all(smoothing == 1):
            return self._rows, []
        factors = self._editor.weight(f"{self._rows}.smoothing", (1 / smoothing).astype(np.float32))
        name = f"{self._rows}.smooth"
        return name, [self._editor.node("Mul", [self._rows, factors], name)]

    def _scales(self, rows: str, name: str, floor: float | None) -> list[onnx.NodeProto]:
        """Nodes that give NAME.scale, float32 (…, 1)."""
        editor = self._editor
        axes = editor.weight("int8.last_axis", np.array([-1], dtype=np.int64))
        below = _below(floor)
        least = editor.weight(f"int8.least_scale_{below}", np.float32(_least_scale(floor)))
        step = editor.weight(f"int8.step_{below}", np.float32(1 / (255 - below)))
        highest = editor.node("ReduceMax", [rows, axes], f"{name}.max", keepdims=1)
        if floor is not None:
            return [
                highest,
                editor.node("Mul", [f"{name}.max", step], f"{name}.wanted"),
                editor.node("Max", [f"{name}.wanted", least], f"{name}.scale"),
            ]
        return [
            highest,
            # the largest and the smallest value cost two passes; Abs and one pass cost more
            editor.node("ReduceMin", [rows, axes], f"{name}.min", keepdims=1),
            editor.node("Neg", [f"{name}.min"], f"{name}.neg"),
            editor.node("Max", [f"{name}.max", f"{name}.neg"], f"{name}.peak"),
            editor.node("Mul", [f"{name}.peak", step], f"{name}.wanted"),
            editor.node("Max", [f"{name}.wanted", least], f"{name}.scale"),
        ]

    def _product(
        self,
        product: Product,
        matrix: FloatArray,
        rows: str,
        scale: str,
        zero: str,
        output: str,
        bias: str | None = None,
    ) -> onnx.NodeProto:
        """Quantised rows times the matrix, as float32."""
        editor = self._editor
        values, columns = _columns(matrix)
        around = ""
        if self._unsigned:
            stored = editor.weight(f"{product.matrix}.uint8", (values + 128).astype(np.uint8))
            around = editor.weight("int8.weights_zero_point", np.uint8(128))
        else:
            stored = editor.weight(f"{product.matrix}.int8", values.astype(np.int8))
        inputs = [rows, stored, scale, editor.weight(f"{product.matrix}.scales", columns), zero, around]
        inputs.append(bias or "")
        while not inputs[-1]:
            inputs.pop()
        return editor.node("MatMulIntegerToFloat", inputs, output, domain="com.microsoft")


_Values: TypeAlias = npt.NDArray[np.float32]


def _columns(matrix: FloatArray) -> tuple[_Values, _Values]:
    """Whole numbers from -127 to 127, and the scale of each column."""
    scales = np.maximum(np.abs(matrix).max(axis=0), SMALLEST_SCALE).astype(np.float32) / np.float32(127)
    return np.rint(matrix / scales), scales


def _fixed_scale(seen: Activations, smoothing: FloatArray) -> float:
    return max(float((seen.peak / smoothing).max()) / 127, SMALLEST_SCALE)


def _below(floor: float | None) -> int:
    """The zero point: steps for what is below 0."""
    if floor is None:
        return 128
    return _BELOW if floor else 0


def _least_scale(floor: float | None) -> float:
    """Smallest scale at which the floor still fits."""
    return max(floor / _BELOW, SMALLEST_SCALE) if floor else SMALLEST_SCALE
