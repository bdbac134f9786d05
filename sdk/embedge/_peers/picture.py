"""The figures as a page or an SVG file: one panel for each, a bar for each subject, axes from zero."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import msgspec

from embedge._peers.figures import Comparison, Measured, Spread
from embedge._peers.page import MARK, PAGE, STYLE

_WIDTH, _BAR, _GAP = 420, 330, 28
_TOP, _ROW = 44, 38
_WIDEST = 1.6
"""Times the largest median that an axis reaches."""
_RESTLESS = 0.5
"""Share of the lowest round by which the highest may be above it on a machine that is called calm."""
_HEADER = ("", "one text", "short texts/s", "passages/s", "start", "memory", "vectors")
_NOBODY_ELSE = (
    "No other library was measured. To compare, install one into this environment (pip install fastembed, or "
    "sentence-transformers), or name another environment's interpreter with --python; what is here and was not "
    "measured is named below."
)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, and on what.

    Attributes:
        name: of the bundle.
        cpu, threads: of the machine, and of each subject.
        date: as people write it.
    """

    name: str
    cpu: str
    threads: int
    date: str


class _Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of all subjects.

    Attributes:
        title, unit: in words; the unit says which way is better.
        figure: of a subject.
        written: a figure as people read it.
        with_cosines: whether the fidelity stands beside it.
    """

    title: str
    unit: str
    figure: Callable[[Measured], Spread]
    written: Callable[[float], str]
    with_cosines: bool = True


def draw_page(comparison: Comparison, setting: Setting) -> str:
    """A page that needs no other file."""
    panels = "".join(_svg(_panel(panel, comparison), False) for panel in _panels(comparison))
    return (
        PAGE.replace("{{mark}}", MARK)
        .replace("{{title}}", escape(f"{setting.name}: speed on this machine"))
        .replace("{{style}}", STYLE)
        .replace("{{name}}", escape(setting.name))
        .replace("{{lead}}", escape(f"{conditions(comparison, setting)}."))
        .replace("{{panels}}", panels)
        .replace("{{table}}", _table(comparison))
        .replace("{{notes}}", "".join(f"<li>{escape(note)}</li>" for note in notes(comparison)))
    )


def draw_svg(comparison: Comparison, setting: Setting) -> str:
    """All panels in one SVG file, two beside each other."""
    panels = _panels(comparison)
    height = _TOP + _ROW * len(comparison.measured) + _GAP
    body = [
        f'<text class="title" x="0" y="24">{escape(setting.name)}</text>',
        f'<text class="unit" x="0" y="46">{escape(conditions(comparison, setting))}</text>',
    ]
    for number, panel in enumerate(panels):
        x, y = (number % 2) * (_WIDTH + _GAP), 64 + (number // 2) * height
        body.append(f'<g transform="translate({x} {y})">{_panel(panel, comparison)[0]}</g>')
    lines = -(-len(panels) // 2)
    return MARK + _svg(("".join(body), 2 * _WIDTH + _GAP, 64 + lines * height), True)


def conditions(comparison: Comparison, setting: Setting) -> str:
    """Under which everything was measured, in one line."""
    threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
    rounds = "1 round" if comparison.rounds == 1 else f"{comparison.rounds} rounds, in turn"
    return f"{threads} of {setting.cpu}, {rounds}, {comparison.seconds:.0f} s in all, {setting.date}"


def notes(comparison: Comparison) -> list[str]:
    """What a reader has to know of the figures."""
    found = [
        "Every library ran in a process of its own, one at a time, with the same texts, threads and limit of tokens. "
        "Bars are medians of all rounds, lines reach from the lowest to the highest; loading was measured once.",
        f"Cosines compare with {comparison.reference}, text by text; the lowest of {comparison.compared} is shown.",
    ]
    if all(each.ours for each in comparison.measured):
        found.append(_NOBODY_ELSE)
    restless = max(
        (spread.high / spread.low - 1, each.label)
        for each in comparison.measured
        for spread in (each.query_ms, each.short_per_s, each.passages_per_s)
    )
    if restless[0] > _RESTLESS:
        found.append(
            f"The machine was not calm: rounds of {restless[1]} differ by {100 * restless[0]:.0f} %. Close other "
            "programs, and measure again."
        )
    other = [each.label for each in comparison.measured if not each.same_vectors]
    if other:
        found.append(
            f"These vectors are not the checkpoint's, whatever their speed: {', '.join(other)}. Another pooling, a "
            "prompt that is missing or another file may be why."
        )
    for each in comparison.left_out:
        how = (
            "Not measured"
            if each.rounds == 0
            else f"Stopped after {each.rounds} of {comparison.rounds} rounds"
        )
        found.append(f"{how}: {each.label}: {each.reason}.")
    versions = dict.fromkeys(each.version for each in comparison.measured)
    return [*found, f"Versions: {', '.join(versions)}."]


def cosine_words(measured: Measured, reference: str) -> str:
    """A subject's fidelity in a few words."""
    if measured.label == reference:
        return "reference"
    if measured.cosine_min is None:
        return "other vectors"
    cut = int(1e5 * measured.cosine_min) / 1e5  # not rounded: it is a lower bound
    return f"cos ≥ {cut:.5f}" if measured.same_vectors else f"other vectors, cos ≥ {cut:.2f}"


def memory_words(measured: Measured) -> str:
    """A subject's highest memory in a few words; empty where the system does not tell."""
    return "" if measured.peak_rss_bytes is None else f"{measured.peak_rss_bytes / 1e6:,.0f} MB"


def _panels(comparison: Comparison) -> list[_Panel]:
    def rate(figure: float) -> str:
        return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"

    words = f"{comparison.short_words:.0f} words"
    panels = [
        _Panel(
            title=f"One text of {words} at a time",
            unit="milliseconds, lower is better",
            figure=lambda each: each.query_ms,
            written=lambda figure: f"{figure:.3g} ms",
        ),
        _Panel(
            title=f"{comparison.shorts:,} short texts of {words}",
            unit="texts per second, higher is better",
            figure=lambda each: each.short_per_s,
            written=rate,
        ),
        _Panel(
            title=f"{comparison.passages:,} passages of {comparison.passage_words:.0f} words",
            unit="texts per second, higher is better",
            figure=lambda each: each.passages_per_s,
            written=rate,
        ),
        _Panel(
            title="Start of a process to its first vector",
            unit="seconds, lower is better; once",
            figure=lambda each: _alone(each.start_s),
            written=lambda figure: f"{figure:.2f} s",
            with_cosines=False,
        ),
    ]
    if all(each.peak_rss_bytes is not None for each in comparison.measured):
        panels.append(
            _Panel(
                title="Highest memory",
                unit="resident MB, lower is better",
                figure=lambda each: _alone((each.peak_rss_bytes or 0) / 1e6),
                written=lambda figure: f"{figure:,.0f} MB",
                with_cosines=False,
            )
        )
    return panels


def _alone(figure: float) -> Spread:
    return Spread(median=figure, low=figure, high=figure)


def _panel(panel: _Panel, comparison: Comparison) -> tuple[str, int, int]:
    """Its body, width and height."""
    measured, reference = comparison.measured, comparison.reference
    figures = [panel.figure(each) for each in measured]
    highest = max(figure.high for figure in figures)
    # a round that others disturbed does not press all bars together: its line ends where there is no more room
    most = min(highest, _WIDEST * max(figure.median for figure in figures))
    body = [
        f'<text class="title" x="0" y="15">{escape(panel.title)}</text>',
        f'<text class="unit" x="0" y="32">{escape(panel.unit)}</text>',
    ]
    for row, (each, figure) in enumerate(zip(measured, figures, strict=True)):
        y = _TOP + row * _ROW
        body.append(f'<text x="0" y="{y + 12}">{escape(each.label)}</text>')
        if panel.with_cosines:
            kind = "cosine" if each.same_vectors else "cosine other"
            cosine = cosine_words(each, reference)
            body.append(
                f'<text class="{kind}" x="{_WIDTH}" y="{y + 12}" text-anchor="end">{escape(cosine)}</text>'
            )
        width, low, high = (
            _BAR * min(1.0, value / most) for value in (figure.median, figure.low, figure.high)
        )
        kind = "ours" if each.ours else "theirs"
        kind += "" if each.same_vectors else " other"
        body.append(
            f'<rect class="{kind}" x="0" y="{y + 18}" width="{max(1.0, width):.1f}" height="12" rx="2"/>'
        )
        if high - low > 1:
            end = f"M{high:.1f} {y + 21}v6" if figure.high <= most else ""
            body.append(
                f'<path class="spread" d="M{low:.1f} {y + 24}H{high:.1f}M{low:.1f} {y + 21}v6{end}"/>'
            )
        body.append(
            f'<text class="value" x="{high + 6:.1f}" y="{y + 28}">{panel.written(figure.median)}</text>'
        )
    return "".join(body), _WIDTH, _TOP + _ROW * len(measured)


def _svg(panel: tuple[str, int, int], alone: bool) -> str:
    body, width, height = panel
    style = f"<style>{STYLE}</style>" if alone else ""
    paper = '<rect class="paper" x="-20" y="-20" width="100%" height="100%"/>' if alone else ""
    edge = 20 if alone else 0
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="{-edge} {-edge} {width + 2 * edge} '
        f'{height + 2 * edge}">{style}{paper}{body}</svg>'
    )


def _table(comparison: Comparison) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in _HEADER)
    lines = []
    for each in comparison.measured:
        cells = (
            each.label,
            f"{each.query_ms.median:.2f} ms ({each.query_ms.low:.2f}–{each.query_ms.high:.2f})",
            _rate(each.short_per_s),
            _rate(each.passages_per_s),
            f"{each.start_s:.2f} s",
            memory_words(each),
            cosine_words(each, comparison.reference),
        )
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _rate(spread: Spread) -> str:
    return f"{spread.median:,.0f} ({spread.low:,.0f}–{spread.high:,.0f})"
