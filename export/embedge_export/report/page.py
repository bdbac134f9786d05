"""report.html: what was exported, how close it is, how large and how fast, on one page without any other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from embedge.manifest import REPORT_FILE, Manifest
from embedge_export.precisions import STORED_AS
from embedge_export.report.command import export_command
from embedge_export.report.operators import count_operators, machine
from embedge_export.report.style import CSS
from embedge_export.report.tables import Column, fidelity, operators, retrieval, speed, variant_bytes
from embedge_export.report.words import (
    facts,
    how_compared,
    lead,
    limits,
    reference_of,
    set_in_words,
    witnessed,
)
from embedge_export.spec import ExportSpec
from embedge_export.verify.asking import SPEED_RUNS
from embedge_export.verify.figures import show_cosine
from embedge_export.verify.gates import Trial
from embedge_export.verify.questions import Questions


def write_report(folder: Path, manifest: Manifest, trials: Mapping[str, Trial], spec: ExportSpec) -> None:
    """Write report.html into a bundle whose other files are complete.

    Args:
        folder: the bundle.
        manifest: with the variants and the records of their files.
        trials: by variant, at least one; all were asked the same.
        spec: of the export.
    """
    columns = [
        Column(
            name=name,
            variant=variant,
            size_bytes=variant_bytes(manifest, variant),
            trial=trials.get(name),
            operators=count_operators(
                folder / variant.file, variant.disabled_optimizers, variant_bytes(manifest, variant)
            ),
        )
        for name, variant in manifest.variants.items()
    ]
    asked = next(iter(trials.values())).asked
    page = render(manifest, asked, columns, export_command(spec, manifest.source), machine())
    (folder / REPORT_FILE).write_text(page, "utf-8", newline="\n")


def render(manifest: Manifest, asked: Questions, columns: Sequence[Column], command: str, where: str) -> str:
    """The page as one HTML document.

    Args:
        manifest: of the finished bundle.
        asked: what the variants were asked.
        columns: the variants and what was measured of them.
        command: that makes the export again.
        where: the machine on which speed was measured.
    """
    sections = [
        _section("The model", "", _facts(facts(manifest))),
        _section(
            "Fidelity",
            f"{how_compared(asked, manifest)} {witnessed(manifest)}",
            fidelity(columns, asked.comparison, reference_of(manifest)),
        ),
        _section("Retrieval", set_in_words(asked), retrieval(columns, asked.comparison)),
        _section(
            "Size and speed",
            f"Medians of {SPEED_RUNS} runs and more during the export, on: {where}. Other programs may have been "
            "running; compare the variants with each other, and measure with embedge bench where it counts.",
            speed(columns),
        ),
        _section(
            "Operators",
            "Nodes of each graph as exported, and as onnxruntime runs it after its own optimisation on this CPU.",
            operators(columns),
        ),
        _section(
            "How it was made",
            "This command makes the same graphs again from the same checkpoint.",
            f"<pre>{escape(command)}</pre>{_provenance(manifest)}",
        ),
        _section(
            "Limits",
            "",
            f'<ul class="limits">{"".join(f"<li>{escape(x)}</li>" for x in limits(manifest))}</ul>',
        ),
    ]
    tasks = " and ".join(manifest.tasks)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # nothing is ever fetched, whatever a model's name or licence may hold
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(manifest.name)}: export report</title><style>{CSS}</style></head>\n<body><main>"
        f'<header><p class="kicker">Export report</p><h1>{escape(manifest.name)}</h1>'
        f'<p class="lead">{escape(lead(manifest, tasks))}</p></header>\n{_cards(columns, reference_of(manifest))}\n'
        + "\n".join(section for section in sections if section)
        + f"\n<footer>embedge {escape(manifest.exporter.get('embedge', ''))} · bundle fingerprint "
        f"<code>{manifest.fingerprint[:16]}</code></footer></main></body></html>\n"
    )


def _section(title: str, text: str, content: str) -> str:
    if not content:
        return ""
    note = f'<p class="note">{escape(text)}</p>' if text else ""
    return f"<section><h2>{escape(title)}</h2>{note}{content}</section>"


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{rows}</dl>'


def _cards(columns: Sequence[Column], reference: str) -> str:
    cards = []
    for index, column in enumerate(columns):
        big, of = _headline(column, reference)
        lines = [("size", f"{column.size_bytes / 1e6:,.1f} MB")]
        if column.timing is not None:
            lines.append(("texts per second", f"{column.timing.texts_per_s:,.0f}"))
            lines.append(("one short text", f"{column.timing.query_ms:.1f} ms"))
        if column.figures is not None:
            lines.append(
                ("depends on its batch", "no" if column.figures.batch_invariance == "exact" else "yes")
            )
        items = "".join(f"<li><span>{escape(a)}</span>{escape(b)}</li>" for a, b in lines)
        cards.append(
            f'<div class="card s{index % 5}"><span class="name">{escape(column.name)}</span>'
            f'<span class="kind">{STORED_AS[column.variant.dtype].words}</span><div class="big">{escape(big)}</div>'
            f'<div class="of">{escape(of)}</div><ul>{items}</ul></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _headline(column: Column, reference: str) -> tuple[str, str]:
    figures = column.figures
    if figures is not None and figures.reference == "fp32":
        if figures.cosine_mean is not None:
            return show_cosine(figures.cosine_mean), "mean end-to-end cosine to float32"
        if figures.rank_correlation is not None:
            return f"{figures.rank_correlation:.4f}", "rank correlation with float32"
        if figures.label_agreement is not None:
            return f"{figures.label_agreement:.1%}", "of labels as in float32"
    if not column.variant.fidelity.num_texts:
        return "not measured", "as the export had no GPU"
    return f"{column.variant.fidelity.max_abs_diff:.1e}", f"largest difference from {reference}"


def _provenance(manifest: Manifest) -> str:
    source = manifest.source
    measured = [v.fidelity.end_to_end for v in manifest.variants.values() if v.fidelity.end_to_end]
    return _facts(
        [
            ("revision", source.revision or "not known"),
            *((f"sha256 of {name}", digest) for name, digest in source.weights_sha256.items()),
            ("exported with", ", ".join(f"{name} {version}" for name, version in manifest.exporter.items())),
            *(("sha256 of the questions", figures.texts_sha256) for figures in measured[:1]),
        ]
    )
