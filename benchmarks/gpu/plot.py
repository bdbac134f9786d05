"""The GPU's rates as bars, PNG and SVG."""

from __future__ import annotations

from pathlib import Path

from benchmarks.plots import EDGE, OURS, STYLE, THEIRS
from benchmarks.tables import number

_PANELS = (
    ("64x128", "64 texts of 128 tokens"),
    ("256x128", "256 texts of 128 tokens"),
    ("32x512", "32 texts of 512 tokens"),
    ("ragged", "256 texts of 4 to 128 tokens"),
)


def plot(results: dict, rows: list[tuple[str, bool, dict]], stem: Path) -> None:
    """Write stem.png and stem.svg: device-only rates, text to vectors, one query; axes from zero.

    Args:
        results: of one card.
        rows: label, whether it is ours, and device-only figures.
        stem: of the files.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update(STYLE)
    panels = [
        (
            f"Device only: {title}",
            "million real tokens per second, higher is better",
            [
                (label, ours, figures["tokens_per_s"][shape] / 1e6)
                for label, ours, figures in rows
                if shape in figures["tokens_per_s"]
            ],
        )
        for shape, title in _PANELS
    ]
    bulk, peer = results.get("bulk", {}), results.get("sentence_transformers", {})
    if "texts_per_s" in bulk and "texts_per_s" in peer:
        panels.append(
            (
                f"Text to vectors: {bulk['texts']:,} passages",
                "thousand texts per second, higher is better",
                [
                    ("embedge", True, bulk["texts_per_s"]["None"] / 1e3),
                    ("sentence-transformers float16", False, peer["texts_per_s"] / 1e3),
                ],
            )
        )
    if "p50" in results.get("query", {}) and "query_ms" in peer:
        panels.append(
            (
                "Text to vector: one query",
                "milliseconds at the median, lower is better",
                [
                    *(
                        [("embedge, cuda_graphs=True", True, results["query"]["captured"]["p50"])]
                        if "p50" in results["query"].get("captured", {})
                        else []
                    ),
                    ("embedge", True, results["query"]["p50"]),
                    ("sentence-transformers float16", False, peer["query_ms"]["p50"]),
                ],
            )
        )
    lines = -(-len(panels) // 2)
    figure, axes = plt.subplots(lines, 2, figsize=(11.8, 2.3 * lines), layout="constrained", squeeze=False)
    for axis, (title, unit, bars) in zip(axes.flat, panels, strict=False):
        labels, ours, values = zip(*bars, strict=True)
        axis.barh(
            labels, values, color=[OURS if each else THEIRS for each in ours], edgecolor=EDGE, height=0.72
        )
        for position, value in enumerate(values):
            axis.annotate(number(value), (value, position), (4, 0), textcoords="offset points", va="center")
        axis.set_xlim(0, 1.16 * max(values))
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(unit, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle(f"BERT-base, float16, on {results['machine']['cards'][0]}", fontsize=11)
    figure.savefig(stem.with_suffix(".png"), dpi=110)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
