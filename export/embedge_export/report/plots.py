"""Plots of the report as inline SVG: small enough to read at a phone's width, coloured by the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT = 280, 176
_LEFT, _RIGHT, _TOP, _BOTTOM = 6, 6, 28, 24
_BINS = 32
_POINTS = 600

Values = npt.NDArray[np.floating]


def cosine_histogram(values: Values, gate: float | None, series: str) -> str:
    """How alike the variant's vectors are to the reference's, one cosine per text; the gate is the left end.

    Args:
        values: cosines.
        gate: smallest that would have been let through.
        series: class that colours the bars.
    """
    lowest = float(values.min())
    start = min(lowest, gate) if gate is not None else lowest
    start = min(start, 1 - 1e-9)
    span = 1 - start
    digits = max(2, 2 - math.floor(math.log10(span)))
    start -= 0.02 * span
    counts, _ = np.histogram(values, bins=_BINS, range=(start, 1.0))
    marks = [(value, f"{value:.{digits}f}".rstrip("0")) for value in (start + 0.02 * span, 1 - span / 2)]
    return _histogram(
        counts,
        lambda value: (value - start) / (1 - start),
        [*marks, (1.0, "1")],
        gate,
        series,
        title=f"cosine to the reference, {len(values)} texts",
        description=f"Histogram of cosines from {lowest:.6f} to {float(values.max()):.6f}",
    )


def difference_histogram(values: Values, series: str) -> str:
    """Largest absolute difference of each text's vector, on a logarithmic axis.

    Args:
        values: differences; 0 is drawn at the left end.
        series: class that colours the bars.
    """
    largest = max(float(values.max()), 1e-12)
    stop = math.log10(largest) + 0.15
    positive = values[values > 0]
    lowest = math.log10(float(positive.min())) if len(positive) else stop - 3
    start = min(math.floor(lowest), math.floor(stop) - 2)
    logs = np.log10(np.maximum(values, 10.0**start))
    counts, _ = np.histogram(logs, bins=_BINS, range=(start, stop))
    every = 1 if stop - start <= 5 else 2
    return _histogram(
        counts,
        lambda value: (math.log10(value) - start) / (stop - start),
        [(10.0**power, _power(power)) for power in range(start, math.floor(stop) + 1, every)],
        None,
        series,
        title=f"largest difference, {len(values)} texts",
        description=f"Histogram of absolute differences up to {float(values.max()):.2e}",
    )


def scatter(expected: Values, actual: Values, series: str, what: str) -> str:
    """Each answer of the variant over the reference's; equal ones lie on the diagonal.

    Args:
        expected: the reference's.
        actual: the variant's, of the same size.
        series: class that colours the points.
        what: name of one answer, e.g. "score".
    """
    x, y = expected.ravel(), actual.ravel()
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    pad = max((high - low) * 0.04, 1e-6)
    low, high = low - pad, high + pad
    size = 228
    left, top = 40, 28

    def position(value: float) -> float:
        return size * (value - low) / (high - low)

    step = max(1, len(x) // _POINTS)
    points = "".join(
        f'<circle cx="{left + position(a):.1f}" cy="{top + size - position(b):.1f}" r="2.6"/>'
        for a, b in zip(x[::step].tolist(), y[::step].tolist(), strict=True)
    )
    digits = max(0, 2 - math.floor(math.log10(high - low)))
    ticks = "".join(
        f'<text x="{left + position(value):.1f}" y="{top + size + 17}" text-anchor="middle">{value:.{digits}f}</text>'
        f'<text x="{left - 6}" y="{top + size - position(value) + 4:.1f}" text-anchor="end">{value:.{digits}f}</text>'
        for value in np.linspace(low + pad, high - pad, 3).tolist()
    )
    body = (
        f'<text class="t" x="{left}" y="18">{escape(what)} over the reference’s</text>'
        f'<rect class="frame" x="{left}" y="{top}" width="{size}" height="{size}"/>'
        f'<line class="rule" x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}"/>'
        f'<g class="dots">{points}</g>{ticks}'
    )
    correlated = f"Scatter of {len(x)} answers against the reference's"
    return _svg(body, _WIDTH, size + top + 26, series, correlated)


def _histogram(
    counts: npt.NDArray[np.integer],
    position: Callable[[float], float],
    ticks: Sequence[tuple[float, str]],
    gate: float | None,
    series: str,
    *,
    title: str,
    description: str,
) -> str:
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    floor = _TOP + inner_height
    bar = inner_width / len(counts)
    # square roots keep a single text far out visible beside hundreds at the peak
    heights = np.sqrt(counts / max(1, counts.max())) * (inner_height - 8)
    bars = "".join(
        f'<rect x="{_LEFT + index * bar + 0.75:.2f}" y="{floor - height:.2f}" '
        f'width="{bar - 1.5:.2f}" height="{height:.2f}" rx="1"/>'
        for index, height in enumerate(heights.tolist())
        if height > 0
    )
    labels = []
    for value, label in ticks:
        x = _LEFT + position(value) * inner_width
        anchor = "start" if x < _LEFT + 24 else "end" if x > _WIDTH - _RIGHT - 24 else "middle"
        labels.append(f'<text x="{x:.1f}" y="{floor + 17}" text-anchor="{anchor}">{escape(label)}</text>')
    line = ""
    if gate is not None:
        x = _LEFT + position(gate) * inner_width
        anchor, shift = ("start", 5) if x < _WIDTH / 2 else ("end", -5)
        line = (
            f'<line class="gate" x1="{x:.1f}" y1="{_TOP + 4}" x2="{x:.1f}" y2="{floor}"/>'
            f'<text class="g" x="{x + shift:.1f}" y="{_TOP + 14}" text-anchor="{anchor}">gate</text>'
        )
    body = (
        f'<text class="t" x="{_LEFT}" y="18">{escape(title)}</text><g class="bars">{bars}</g>'
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{_WIDTH - _RIGHT}" y2="{floor}"/>{line}{"".join(labels)}'
    )
    return _svg(body, _WIDTH, _HEIGHT, series, description)


def _power(power: int) -> str:
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _svg(body: str, width: int, height: int, series: str, description: str) -> str:
    return (
        f'<svg class="plot {series}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(description)}" xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )
