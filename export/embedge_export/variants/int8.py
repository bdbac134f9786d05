"""int8 of any float32 graph: each product of activations with a stored matrix in 8 bits, in the form that suits it.

Every column of a matrix has a scale of its own. The rows that it multiplies are quantised in one of these forms, none
of which lets a text's vector depend on what else is in the batch (dynamic quantisation per tensor, which onnxruntime
and optimum offer, does):

- fixed, after a normalisation or attention: one scale measured beforehand, since such rows are alike; channels that
  stand out are smoothed into the weights, and each lies around 0, its middle added to the bias. No pass over the
  activations looks for a scale, and the bias goes into the product. After attention, whose weights add up to 1,
  neither costs anything: the weights and the bias that its values come from are changed instead.
- floored, after GELU or ReLU: one scale per token, from its largest value, and nearly all 256 steps for what is
  above 0.
- token: one scale per token, from its largest absolute value; smoothed, where that alone is not enough.

The first of the forms that computes the product closely enough on rows of the calibration texts is taken, and its
matrix is rounded for these rows, as rounding.py says; where none does, the product stays in float32.
benchmarks/operators times what each form costs.

Source: SmoothQuant (Xiao et al., 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge.types import FloatArray
from embedge_export.threads import one_thread
from embedge_export.variants.calibration import Activations
from embedge_export.variants.editor import GraphEditor, Product, nothing_to_store
from embedge_export.variants.int8_nodes import (
    Form,
    Quantisation,
    least_scale,
    quantise_products,
    quantise_tables,
    zero_point,
)
from embedge_export.variants.rounding import SMALLEST_SCALE, round_columns, round_for

if TYPE_CHECKING:
    import onnx

DISABLED_OPTIMIZERS = ("SkipLayerNormFusion",)
"""onnxruntime's fusion of addition and normalisation takes longer than what it replaces on the CPU."""

_LARGEST_ERROR = 0.03
"""Of a product, relative to its norm, over rows of the calibration texts; MiniLM's are 0.005 to 0.02."""

_JUDGED_ROWS = 256
"""Enough of the calibration texts' rows to choose a form by."""

_FIXED_SMOOTHING, _TOKEN_SMOOTHING = 0.8, 0.5
"""SmoothQuant's alpha: 0.8 evens out a fixed scale's channels, 0.5 shares the burden with the weights."""

_HEADROOM = 1.2
"""Texts go beyond the calibration texts; what is beyond a fixed scale is cut off."""

_NORMS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")
_FLOORS = {"Gelu": 0.17, "Relu": 0.0}
"""How far below 0 an activation can go."""


class Quantised(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An int8 graph, and how many of its products have which form."""

    graph: onnx.ModelProto
    forms: dict[Form, int]


@one_thread()
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
    products = editor.products()
    if not products:
        raise nothing_to_store("uint8" if unsigned else "int8")
    editor.require_contrib_ops()
    by_rows: dict[str, list[Product]] = {}
    for product in products:
        by_rows.setdefault(product.rows, []).append(product)
    values = editor.attention_values(products)
    later: dict[str, Quantisation] = {}
    chosen: list[Quantisation] = []
    written: set[str] = set()
    forms: dict[Form, int] = {}
    for rows, sharing in by_rows.items():
        before = rows in values and values[rows].matrix in written
        each = _choose(editor, sharing, activations.get(rows), smoothed_before=before)
        if before and each.form == "fixed":
            later[values[rows].matrix] = each
        if each.form != "float32":
            written.update(product.matrix for product in sharing)
        forms[each.form] = forms.get(each.form, 0) + len(sharing)
        chosen.append(each)
    for each in chosen:
        quantise_products(editor, each, later, unsigned=unsigned)
    quantise_tables(editor, chosen)
    return Quantised(graph=editor.finish(), forms=forms)


def _choose(
    editor: GraphEditor, sharing: Sequence[Product], seen: Activations | None, *, smoothed_before: bool
) -> Quantisation:
    """Take the first form of an activation that is close enough.

    Args:
        editor: of the graph.
        sharing: the products of the activation; their matrices are in memory while the form is chosen.
        seen: the activation over the calibration texts.
        smoothed_before: the activation's channels can be divided where it comes from.
    """
    matrices = [editor.matrix(product) for product in sharing]
    channels = len(matrices[0])
    floor = _FLOORS.get(sharing[0].producer)
    ones = np.ones(channels, dtype=np.float32)
    products = tuple(sharing)
    if seen is None or seen.lowest.shape != (channels,):
        return Quantisation(
            products=products,
            form="token" if floor is None else "floored",
            smoothing=ones,
            floor=floor,
            rounded=tuple(round_columns(matrix) for matrix in matrices),
        )
    forms: list[tuple[Form, FloatArray]] = [("token" if floor is None else "floored", ones)]
    middle: FloatArray | None = None
    if floor is None and (smoothed_before or sharing[0].producer in _NORMS):
        if smoothed_before or editor.norm(sharing[0].rows) is not None:
            middle = ((seen.highest + seen.lowest) / 2).astype(np.float32)
        forms.insert(0, ("fixed", _smoothing(_reach(seen, middle), matrices, _FIXED_SMOOTHING)))
    forms.append(("smoothed token", _smoothing(_reach(seen), matrices, _TOKEN_SMOOTHING)))
    for form, smoothing in forms:
        quantisation = Quantisation(
            products=products,
            form=form,
            smoothing=smoothing,
            middle=middle if form == "fixed" else None,
            smoothed_before=smoothed_before,
            scale=_fixed_scale(_reach(seen, middle) / smoothing) if form == "fixed" else None,
            floor=floor if form == "floored" else None,
        )
        exact = seen.sample if quantisation.middle is None else seen.sample - quantisation.middle
        rows = _as_stored(exact, quantisation)
        if _error(rows, exact, matrices, smoothing) <= _LARGEST_ERROR:
            rounded = round_for(rows, [matrix * smoothing[:, None] for matrix in matrices])
            return msgspec.structs.replace(quantisation, rounded=tuple(rounded))
    return Quantisation(products=products, form="float32", smoothing=ones)


def _reach(seen: Activations, middle: FloatArray | None = None) -> FloatArray:
    """How far each channel goes from its middle, or from 0."""
    around = np.float32(0) if middle is None else middle
    reach: FloatArray = np.maximum(seen.highest - around, around - seen.lowest)
    return reach


def _smoothing(reach: FloatArray, matrices: Sequence[FloatArray], alpha: float) -> FloatArray:
    """What activations are divided by and weights multiplied with, one value per channel."""
    weights = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
    factors = np.maximum(reach, 1e-5) ** alpha / np.maximum(weights, 1e-5) ** (1 - alpha)
    return np.clip(factors, 1e-4, 1e4).astype(np.float32)


def _as_stored(sample: FloatArray, quantisation: Quantisation) -> FloatArray:
    """Rows, around their middle, as the graph multiplies them: smoothed, and rounded to 8 bits."""
    floor = quantisation.floor
    rows = sample / quantisation.smoothing
    zero = zero_point(floor)
    if quantisation.scale is not None:
        scales = np.float32(quantisation.scale)
    elif floor is not None:
        scales = np.maximum(rows.max(axis=1, keepdims=True) / (255 - zero), least_scale(floor))
    else:
        scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, SMALLEST_SCALE)
    stored: FloatArray = np.clip(np.rint(rows / scales), -zero, 255 - zero) * scales
    return stored


def _error(
    rows: FloatArray, sample: FloatArray, matrices: Sequence[FloatArray], smoothing: FloatArray
) -> float:
    """Largest error of a product with plainly rounded weights, relative to how much its rows differ from each other."""
    rows, sample = rows[:_JUDGED_ROWS], sample[:_JUDGED_ROWS]
    errors = []
    for matrix in matrices:
        rounded = round_columns(matrix * smoothing[:, None])
        exact = sample @ matrix
        error = float(np.linalg.norm(rows @ (rounded.values * rounded.scales) - exact))
        # what all rows have in common tells nothing apart, and must not hide an error
        errors.append(error / max(float(np.linalg.norm(exact - exact.mean(axis=0))), 1e-30))
    return max(errors)


def _fixed_scale(reach: FloatArray) -> float:
    return max(float(reach.max()) * _HEADROOM / 127, SMALLEST_SCALE)
