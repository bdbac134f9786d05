"""The report's plots and tables: one column per variant, one row per figure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TypeAlias

import msgspec
import numpy as np

from embedge.manifest import EndToEnd, Manifest, Variant
from embedge.types import FloatArray
from embedge_export.precisions import Comparison, gates_of
from embedge_export.report.operators import Operators
from embedge_export.report.plots import cosine_histogram, difference_histogram, scatter
from embedge_export.report.words import how_judged
from embedge_export.texts.graded_pairs import GRADED_PAIRS
from embedge_export.verify.asking import Timing
from embedge_export.verify.comparison import cosines
from embedge_export.verify.figures import FIGURES
from embedge_export.verify.gates import Trial

_DASH = "–"
_FIDELITY = (
    "cosine_mean", "cosine_min", "rank_correlation", "max_score_diff", "label_agreement", "max_prob_diff",
)  # fmt: skip


class Column(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A variant and what was measured of it.

    Attributes:
        name: the variant's.
        variant: as in the manifest, figures included.
        size_bytes: of graph and weights.
        trial: its answers; None where it was not asked here.
        operators: of its graph.
    """

    name: str
    variant: Variant
    size_bytes: int
    trial: Trial | None = None
    operators: Operators | None = None

    @property
    def figures(self) -> EndToEnd | None:
        """End-to-end figures."""
        return self.variant.fidelity.end_to_end

    @property
    def timing(self) -> Timing | None:
        """How fast it answered."""
        return None if self.trial is None else self.trial.answers.timing


_Cell: TypeAlias = Callable[[Column], str | None]


def variant_bytes(manifest: Manifest, variant: Variant) -> int:
    """Size of a variant's graph and weights."""
    return sum(manifest.files[name].size_bytes for name in variant.files)


def fidelity(columns: Sequence[Column], comparison: Comparison, reference: str) -> str:
    """A plot of each variant's answers against the reference's, by its name, and the figures with their gates."""
    plots = "".join(_plot(index, column, comparison) for index, column in enumerate(columns))
    rows: list[tuple[str, _Cell]] = [
        ("compared with", _compared_with),
        (f"largest raw difference from {reference}", _raw_diff),
        *((FIGURES[name].words, _judged(name, comparison)) for name in _FIDELITY),
        ("alone against in a batch", _figure("max_batch_diff", "{:.1e}".format)),
    ]
    note = f'<p class="note">{escape(how_judged(comparison))}</p>'
    return f'<div class="plots">{plots}</div>{_table(columns, rows)}{note}'


def _raw_diff(column: Column) -> str:
    fidelity = column.variant.fidelity
    return f"{fidelity.max_abs_diff:.1e}" if fidelity.num_texts else "not measured"


def retrieval(columns: Sequence[Column], comparison: Comparison) -> str:
    """How well the known answers are found; empty for classifiers."""
    if comparison == "classify":
        return ""
    four = "{:.4f}".format
    rows: list[tuple[str, _Cell]] = [("nDCG@10", _figure("ndcg_10", four)), ("against fp32", _ndcg_change)]
    rows += [("recall@10", _figure("recall_10", four)), ("MRR", _figure("mrr", four))]
    rows.append(("top-10 overlap with fp32", _judged("top_10_overlap", comparison)))
    rows.append(("Spearman, graded pairs", _figure("spearman", four)))
    if comparison != "embed":
        return _table(columns, rows)
    plots = "".join(_similarities(index, column) for index, column in enumerate(columns))
    return (f'<div class="plots">{plots}</div>' if plots else "") + _table(columns, rows)


def speed(columns: Sequence[Column]) -> str:
    """Size, throughput and latency as bars."""
    meters = _meters(columns, "Size", lambda column: column.size_bytes / 1e6, "{:,.1f} MB".format)
    timed = [column for column in columns if column.timing is not None]
    if not timed:
        return f'<div class="meters">{meters}</div>'
    meters += _meters(columns, "Documents per second", _texts_per_s, "{:,.0f}".format)
    meters += _meters(columns, "One short text", _query_ms, "{:.1f} ms".format)
    rows: list[tuple[str, _Cell]] = [("tokens per second", _tokens_per_s), ("to open the bundle", _load_s)]
    return f'<div class="meters">{meters}</div>{_table(columns, rows)}'


def operators(columns: Sequence[Column]) -> str:
    """Numbers of nodes by operator, before and after onnxruntime's optimisation."""
    counted = [column.operators for column in columns]
    first = counted[0] if counted else None
    if first is None:
        return ""
    names = {op for counts in counted if counts for op in (*counts.before, *(counts.after or {}))}

    def often(op: str) -> tuple[int, str]:
        return -max(first.before.get(op, 0), (first.after or {}).get(op, 0)), op

    body = "".join(
        _row(re.sub(r"(?<=[a-z])(?=[A-Z])", "<wbr>", escape(op)), [_change(counts, op) for counts in counted])
        for op in sorted(names, key=often)
    )
    foot = _row("all", [_change(counts, None) for counts in counted])
    return (
        f'<div class="scroll"><table>{_head(columns)}<tbody>{body}</tbody><tfoot>{foot}</tfoot></table></div>'
    )


def _plot(index: int, column: Column, comparison: Comparison) -> str:
    trial = column.trial
    if trial is None or trial.reference is None:
        return ""
    expected = trial.reference.rows
    actual = trial.answers.rows[: len(expected)]
    series = f"s{index % 5}"
    computed_in = trial.figures.reference
    if comparison == "embed" and computed_in != "fp32":
        worst = np.abs(actual - expected).max(axis=1)
        plot = difference_histogram(worst, series)
    elif comparison == "embed":
        gate = gates_of(column.name, column.variant.dtype)[comparison].cosine_min
        plot = cosine_histogram(cosines(actual, expected), gate, series)
    else:
        plot = scatter(expected, actual, series, "score" if comparison == "score" else "probability")
    against = "the fp32 variant" if computed_in == "fp32" else f"{computed_in} in float32"
    return f"<figure><figcaption><b>{escape(column.name)}</b> against {against}</figcaption>{plot}</figure>"


def _similarities(index: int, column: Column) -> str:
    """Cosines of queries and their answers, and of the graded pairs, as this variant and as fp32 give them."""
    trial = column.trial
    if trial is None or trial.reference is None or trial.figures.reference != "fp32":
        return ""
    plot = scatter(
        _pair_cosines(trial, trial.reference.rows),
        _pair_cosines(trial, trial.answers.rows),
        f"s{index % 5}",
        "cosine of two texts",
    )
    return f"<figure><figcaption><b>{escape(column.name)}</b> against the fp32 variant</figcaption>{plot}</figure>"


def _pair_cosines(trial: Trial, rows: FloatArray) -> FloatArray:
    size, pairs = len(trial.asked.texts.documents), len(GRADED_PAIRS)
    answered = cosines(rows[:size], rows[size : 2 * size])
    graded = cosines(rows[-2 * pairs : -pairs], rows[-pairs:])
    return np.concatenate([answered, graded]).astype(np.float32)


def _compared_with(column: Column) -> str | None:
    figures = column.figures
    if figures is None or not figures.num_compared:
        return None
    return f"{figures.reference} <small>{figures.num_compared:,} texts</small>"


def _figure(field: str, words: Callable[[float], str]) -> _Cell:
    def cell(column: Column) -> str | None:
        value = getattr(column.figures, field, None)
        return None if value is None else words(value)

    return cell


def _judged(field: str, comparison: Comparison) -> _Cell:
    """A figure with its gate in small."""

    def cell(column: Column) -> str | None:
        value = getattr(column.figures, field, None)
        if value is None:
            return None
        gate = gates_of(column.name, column.variant.dtype)[comparison]
        figure = FIGURES[field]
        return f"{figure.show(value)} <small>{figure.sign} {getattr(gate, field):g}</small>"

    return cell


def _ndcg_change(column: Column) -> str | None:
    figures = column.figures
    if figures is None or figures.ndcg_10 is None or not figures.reference_ndcg_10:
        return None
    return f"{figures.ndcg_10 / figures.reference_ndcg_10 - 1:+.2%}"


def _texts_per_s(column: Column) -> float:
    return 0.0 if column.timing is None else column.timing.texts_per_s


def _tokens_per_s(column: Column) -> str | None:
    return None if column.timing is None else f"{column.timing.tokens_per_s:,.0f}"


def _load_s(column: Column) -> str | None:
    load_s = None if column.timing is None else column.timing.load_s
    return None if load_s is None else f"{load_s:.2f} s"


def _query_ms(column: Column) -> float:
    return 0.0 if column.timing is None else column.timing.query_ms


def _meters(
    columns: Sequence[Column], title: str, value: Callable[[Column], float], words: Callable[[float], str]
) -> str:
    longest = max(map(value, columns)) or 1.0
    rows = "".join(
        f'<div class="meter s{index % 5}"><span>{escape(column.name)}</span><div class="track">'
        f'<i style="width:{62 * value(column) / longest:.1f}%"></i>{words(value(column))}</div></div>'
        for index, column in enumerate(columns)
    )
    return f"<div><h3>{escape(title)}</h3>{rows}</div>"


def _change(counts: Operators | None, op: str | None) -> str:
    if counts is None:
        return _DASH
    before, after = (
        None if each is None else sum(each.values()) if op is None else each.get(op, 0)
        for each in (counts.before, counts.after)
    )
    if after is None or not (before or after):
        return str(before or "·")
    return f"{before or '·'} → {after or '·'}"


def _table(columns: Sequence[Column], rows: Sequence[tuple[str, _Cell]]) -> str:
    body = ""
    for label, cell in rows:
        cells = [cell(column) or _DASH for column in columns]
        if any(text != _DASH for text in cells):
            body += _row(escape(label), cells)
    return f'<div class="scroll"><table>{_head(columns)}<tbody>{body}</tbody></table></div>' if body else ""


def _row(label: str, cells: Sequence[str]) -> str:
    return f"<tr><td>{label}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _head(columns: Sequence[Column]) -> str:
    cells = "".join(
        f'<th class="s{index % 5}" scope="col">{escape(column.name)}</th>'
        for index, column in enumerate(columns)
    )
    return f"<thead><tr><td></td>{cells}</tr></thead>"
