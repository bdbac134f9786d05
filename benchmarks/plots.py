"""Bar charts of a results file, as PNG and SVG."""

from __future__ import annotations

from pathlib import Path

from benchmarks.models import MODELS
from benchmarks.tables import _cases, median, number

OURS, THEIRS, EDGE = "#c8442f", "#8d99a6", "#ffffff"
PANELS = (
    ("start", "start_s", "Import to first vector", "seconds, lower is better"),
    ("query", "p50_ms", "One query of 16 tokens", "milliseconds, lower is better; bar p50, tick p95"),
    ("short", "texts_per_s", "4,000 short texts", "texts per second, higher is better"),
    ("passages", "texts_per_s", "800 passages, mean 84 tokens", "texts per second, higher is better"),
    ("long", "texts_per_s", "200 documents of 256 tokens", "texts per second, higher is better"),
    ("passages", "peak_rss_mb", "Peak memory, passages", "resident MB, lower is better"),
)


def plot(results: dict, model: str, stem: Path) -> None:
    """Write stem.png and stem.svg: one panel per case, one bar per subject, axes from zero."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    mpl.rcParams.update(
        {"svg.hashsalt": "embedge", "svg.fonttype": "none", "font.size": 9, "hatch.linewidth": 0.8}
    )
    cases = _cases(results, model)
    panels = [panel for panel in PANELS if panel[0] in cases]
    subjects = max((len(cases[panel[0]]["subjects"]) for panel in panels), default=1)
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(5.6 * columns, lines * (0.9 + 0.27 * subjects)),
        layout="constrained",
        squeeze=False,
    )
    for axis, panel in zip(axes.flat, panels, strict=False):
        _bars(axis, cases[panel[0]], panel)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    machine = results["machine"]
    figure.suptitle(f"{MODELS[model].label} on {machine['cpu']}, {machine['cores']} cores", fontsize=11)
    figure.legend(
        handles=[
            Patch(facecolor=OURS, label="embedge"),
            Patch(facecolor=THEIRS, label="others"),
            Patch(facecolor="#ffffff", edgecolor="#444444", label="float32"),
            Patch(facecolor="#ffffff", edgecolor="#444444", hatch="////", label="int8"),
            Patch(facecolor="#ffffff", edgecolor="#444444", hatch="....", label="bfloat16"),
        ],
        loc="outside lower center",
        ncols=5,
        frameon=False,
    )
    figure.savefig(stem.with_suffix(".png"), dpi=110)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def _bars(axis, entry: dict, panel: tuple[str, str, str, str]) -> None:
    _, key, title, unit = panel
    rows = [(name, facts, median(facts, key)) for name, facts in entry["subjects"].items()]
    rows = [row for row in rows if row[2] is not None]
    if not rows:
        axis.set_visible(False)
        return
    labels = [facts["label"] for _, facts, _ in rows]
    values = [value for _, _, value in rows]
    colours = [OURS if name.startswith("embedge") else THEIRS for name, _, _ in rows]
    bars = axis.barh(labels, values, color=colours, edgecolor=EDGE, height=0.72)
    ends = list(values)
    for bar, (_, facts, _) in zip(bars, rows, strict=True):
        bar.set_hatch({"int8": "////", "bfloat16": "...."}.get(facts["precision"], ""))
    if key == "p50_ms":
        ends = [median(facts, "p95_ms") for _, facts, _ in rows]
        axis.scatter(ends, range(len(rows)), marker="|", color="#333333", s=60, zorder=3)
    for position, (value, end) in enumerate(zip(values, ends, strict=True)):
        axis.annotate(
            number(value), (max(value, end), position), (4, 0), textcoords="offset points", va="center"
        )
    axis.set_xlim(0, 1.16 * max(*ends, *values))
    axis.invert_yaxis()
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel(unit, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
