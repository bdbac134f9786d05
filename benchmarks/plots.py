"""Charts of a results file, as PNG and SVG."""

from __future__ import annotations

from pathlib import Path

from benchmarks.models import MODELS
from benchmarks.scaling import CURVES
from benchmarks.subjects import SUBJECTS
from benchmarks.tables import cases_of, label_of, median, number

STYLE = {"svg.hashsalt": "embedge", "svg.fonttype": "none", "font.size": 9, "hatch.linewidth": 0.8}
OURS, THEIRS, EDGE = "#c8442f", "#8d99a6", "#ffffff"
PANELS = (
    ("start", "start_s", "Import to first vector", "seconds, lower is better"),
    ("query", "p50_ms", "One query of 16 tokens", "milliseconds, lower is better; bar p50, tick p95"),
    (
        "short",
        "texts_per_s",
        "{texts:,} short texts, mean {tokens_mean:.0f} tokens",
        "texts per second, higher is better",
    ),
    (
        "passages",
        "texts_per_s",
        "{texts:,} passages, mean {tokens_mean:.0f} tokens",
        "texts per second, higher is better",
    ),
    (
        "long",
        "texts_per_s",
        "{texts:,} documents of {tokens_max} tokens",
        "texts per second, higher is better",
    ),
    (
        "long512",
        "texts_per_s",
        "{texts:,} documents of {tokens_max} tokens",
        "texts per second, higher is better",
    ),
    (
        "long2048",
        "texts_per_s",
        "{texts:,} documents of {tokens_max:,} tokens",
        "texts per second, higher is better",
    ),
    (
        "rerank",
        "pairs_per_s",
        "{texts:,} pairs, mean {tokens_mean:.0f} tokens",
        "pairs per second, higher is better",
    ),
    ("rerank", "p50_ms", "One query with 50 documents", "milliseconds, lower is better; bar p50, tick p95"),
    ("query", "peak_rss_mb", "Peak memory, single queries", "resident MB, lower is better"),
    ("passages", "peak_rss_mb", "Peak memory, passages", "resident MB, lower is better"),
)


def plot(results: dict, model: str, stem: Path) -> None:
    """Write stem.png and stem.svg: one panel per case, one bar per subject, axes from zero."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    mpl.rcParams.update(STYLE)
    cases = cases_of(results, model)
    panels = [panel for panel in PANELS if panel[0] in cases]
    subjects = max((len(cases[panel[0]]["subjects"]) for panel in panels), default=1)
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(5.9 * columns, lines * (0.9 + 0.27 * subjects)),
        layout="constrained",
        squeeze=False,
    )
    for axis, panel in zip(axes.flat, panels, strict=False):
        _bars(axis, cases[panel[0]], panel)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    machine = results["machine"]
    figure.suptitle(f"{label_of(results, model)} on {machine['cpu']}, {machine['cores']} cores", fontsize=11)
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
    _save(figure, stem)
    plt.close(figure)


def plot_scaling(results: dict, stem: Path) -> None:
    """Write stem.png and stem.svg: time and memory over the number of texts, and over the length of many or of one."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update(STYLE)
    wanted = (
        (
            "stream",
            "seconds",
            "Texts through stream(): time",
            "seconds; the dotted line is proportional",
            "log",
        ),
        ("stream", "peak_rss_mb", "Texts through stream(): peak memory", "resident MB", "linear"),
        ("length", "tokens_per_s", "Length of a text: speed", "tokens per second", "linear"),
        ("length", "peak_rss_mb", "Length of a text: peak memory", "resident MB", "linear"),
        (
            "memory",
            "seconds",
            "One text, ModernBERT's layout: time",
            "seconds; the dotted line is proportional",
            "log",
        ),
        (
            "memory",
            "run_mb",
            "One text, ModernBERT's layout: memory of the call",
            "MB beside the loaded model",
            "linear",
        ),
    )
    measured = {CURVES[name].action for name in results["scaling"]}
    wanted = tuple(panel for panel in wanted if panel[0] in measured)
    figure, axes = plt.subplots(
        len(wanted) // 2, 2, figsize=(10, 3.1 * (len(wanted) // 2)), layout="constrained", squeeze=False
    )
    for axis, (action, key, title, unit, scale) in zip(axes.flat, wanted, strict=True):
        ticks = _curves(axis, results["scaling"], action, key)
        axis.set(xscale="log", yscale=scale, ylabel=unit)
        axis.set_xlabel("texts" if action == "stream" else "tokens per text")
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
        if scale == "linear":
            axis.set_ylim(0, 1.1 * axis.dataLim.ymax)
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, loc="best")
    machine = results["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['cores']} cores", fontsize=11)
    _save(figure, stem)
    plt.close(figure)


def _curves(axis, scaling: dict, action: str, key: str) -> list[int]:
    """One line per subject of each curve; returns the points on the x axis."""
    ticks: set[int] = set()
    greys = iter(("#5b6673", "#9aa5b1", "#c3cad1"))
    reds = iter((OURS, "#e59a5c", "#8c2f5b"))
    several = sum(CURVES[name].action == action for name in scaling) > 1
    for name, entry in scaling.items():
        if CURVES[name].action != action:
            continue
        for subject, facts in entry["subjects"].items():
            points = sorted(
                (int(point), found[key]) for point, found in facts["points"].items() if key in found
            )
            if not points:
                continue
            ticks.update(point for point, _ in points)
            xs, ys = zip(*points, strict=True)
            label = f"{facts['label']}, {MODELS[entry['model']].label}" if several else facts["label"]
            colour = next(reds if subject.startswith("embedge") else greys)
            axis.plot(xs, ys, marker="o", markersize=4, color=colour, label=label)
            if key == "seconds":
                axis.plot(xs, [ys[-1] * x / xs[-1] for x in xs], color=colour, linestyle=":", linewidth=1)
    return sorted(ticks)


def _save(figure, stem: Path) -> None:
    figure.savefig(stem.with_suffix(".png"), dpi=110)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


def _bars(axis, entry: dict, panel: tuple[str, str, str, str]) -> None:
    _, key, title, unit = panel
    measured = entry["subjects"]
    rows = [(name, measured[name], median(measured[name], key)) for name in SUBJECTS if name in measured]
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
    for position, (value, end, (_, facts, _)) in enumerate(zip(values, ends, rows, strict=True)):
        text = number(value)
        if key == "texts_per_s" and facts["precision"] != "float32":
            cut = int(1e4 * facts["agreement"]["cosine_min"]) / 1e4  # not rounded: it is a lower bound
            text += f"  cos ≥ {cut:.4f}"
        axis.annotate(text, (max(value, end), position), (4, 0), textcoords="offset points", va="center")
    axis.set_xlim(0, (1.85 if key == "texts_per_s" else 1.16) * max(*ends, *values))
    axis.invert_yaxis()
    axis.set_title(title.format_map(entry["texts"]), fontsize=10, loc="left")
    axis.set_xlabel(unit, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
