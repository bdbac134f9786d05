"""Tables of a results file: pure functions from figures to Markdown."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.cases import CASES
from benchmarks.models import MODELS
from benchmarks.subjects import REFERENCE

FLOOR = {"float32": 0.9999, "bfloat16": 0.99, "int8": 0.97}
"""Smallest cosine to the reference at which a speed still is of the same work; below it the table says so."""
RIVALS = (REFERENCE, "fastembed")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """How a measured figure is shown."""

    title: str
    higher_is_better: bool = False


FIGURES = {
    "start_s": Figure(title="import to first vector (s)"),
    "p50_ms": Figure(title="p50 (ms)"),
    "p95_ms": Figure(title="p95 (ms)"),
    "pairs_per_s": Figure(title="pairs/s", higher_is_better=True),
    "texts_per_s": Figure(title="texts/s", higher_is_better=True),
    "tokens_per_s": Figure(title="tokens/s", higher_is_better=True),
    "cpu_s_per_1000": Figure(title="CPU-seconds per 1,000 texts"),
    "peak_rss_mb": Figure(title="peak RSS (MB)"),
    "idle_cpu_percent": Figure(title="idle CPU (%)"),
}
COLUMNS = (
    ("start", "start_s", "import to first vector (s)"),
    ("query", "p50_ms", "query p50 (ms)"),
    ("short", "texts_per_s", "short (texts/s)"),
    ("passages", "texts_per_s", "passages (texts/s)"),
    ("long", "texts_per_s", "long (texts/s)"),
    ("long512", "texts_per_s", "long, 512 (texts/s)"),
    ("long2048", "texts_per_s", "long, 2,048 (texts/s)"),
    ("rerank", "pairs_per_s", "pairs/s"),
    ("rerank", "p50_ms", "50 documents, p50 (ms)"),
    ("query", "peak_rss_mb", "RSS, queries (MB)"),
    ("passages", "peak_rss_mb", "RSS, passages (MB)"),
    ("rerank", "peak_rss_mb", "RSS (MB)"),
    ("passages", "cpu_s_per_1000", "CPU-s per 1,000 passages"),
)
"""Case, figure and title of the overview's columns."""


def median(subject: dict, figure: str) -> float | None:
    """Median of a figure over a subject's runs; None where there is none."""
    found = [run[figure] for run in subject["runs"] if figure in run]
    return statistics.median(found) if found else None


def paired(entry: dict, subject: str, against: str, figure: str) -> list[float]:
    """A figure of `subject` divided by that of `against`, for each round in which both ran."""
    by_round = [
        {
            run["round"]: run[figure]
            for run in entry["subjects"].get(name, {"runs": []})["runs"]
            if figure in run
        }
        for name in (subject, against)
    ]
    return [ours / by_round[1][number] for number, ours in by_round[0].items() if by_round[1].get(number)]


def ratio(entry: dict, subject: str, against: str, figure: str) -> float | None:
    """Median over the rounds of how many times better `subject` was than `against` in the same round."""
    found = paired(entry, subject, against, figure)
    if not found:
        return None
    better = FIGURES[figure].higher_is_better
    return statistics.median(value if better else 1 / value for value in found)


def overview(results: dict, model: str) -> str:
    """One row per subject with the figures that a reader compares."""
    cases = cases_of(results, model)
    columns = [column for column in COLUMNS if column[0] in cases]
    names = _names(cases)
    best = {column: _best(cases[column[0]], column[1], names) for column in columns}
    fidelity = next(name for name in ("passages", "short", *cases) if name in cases)
    rows = []
    for name in names:
        facts = next(entry["subjects"][name] for entry in cases.values() if name in entry["subjects"])
        row = [f"**{facts['label']}**" if name.startswith("embedge") else facts["label"]]
        for column in columns:
            value = median(cases[column[0]]["subjects"].get(name, {"runs": []}), column[1])
            text = number(value)
            row.append(f"**{text}**" if value is not None and value == best[column] else text)
        row += [number(facts.get("file_mb")), number(facts.get("install_mb"))]
        rows.append([*row, _fidelity(cases[fidelity]["subjects"].get(name), name)])
    header = [
        "system",
        *(title for _, _, title in columns),
        "model files (MB)",
        "installed packages (MB)",
        _fidelity_title(fidelity),
    ]
    return table(header, rows)


def roofline(results: dict, model: str, operators: dict) -> str:
    """Share of onnxruntime's own rate of matrix products that each subject reaches, per case; empty if unknown.

    Args:
        results: of `run`.
        model: name in MODELS.
        operators: results of benchmarks.operators on the same machine.
    """
    kinds = ("bulk", "rerank")
    cases = {name: entry for name, entry in cases_of(results, model).items() if CASES[name].kind in kinds}
    rows = []
    for name in _names(cases):
        precision = next(e["subjects"][name]["precision"] for e in cases.values() if name in e["subjects"])
        ceiling = operators["ceilings"].get(f"{precision} {MODELS[model].hidden}")
        if ceiling is None:
            continue
        row = [_label(cases, name), f"{ceiling:,.0f}"]
        for entry in cases.values():
            rate, share = gflops(entry, model, name), roofline_share(entry, model, name, operators)
            row.append("–" if rate is None or share is None else f"{rate:,.0f} ({share:.0f} %)")
        rows.append(row)
    if not rows:
        return ""
    return table(["system", "ceiling (GFLOP/s)", *(f"{name} (GFLOP/s, share)" for name in cases)], rows)


def gflops(entry: dict, model: str, subject: str) -> float | None:
    """GFLOP/s of a subject's matrix products, attention included, in a case."""
    rate = median(entry["subjects"].get(subject, {"runs": []}), "tokens_per_s")
    if rate is None:
        return None
    return rate * MODELS[model].flop_per_token(entry["texts"]["own_length"]) / 1e9


def roofline_share(entry: dict, model: str, subject: str, operators: dict) -> float | None:
    """Percent of the ceiling of the subject's precision that it reaches in a case."""
    rate = gflops(entry, model, subject)
    if rate is None:
        return None
    ceiling = operators["ceilings"].get(f"{entry['subjects'][subject]['precision']} {MODELS[model].hidden}")
    return None if ceiling is None else 100 * rate / ceiling


def ratios(results: dict, model: str) -> str:
    """How many times better each embedge variant is than its rivals, per case; losses are below 1."""
    cases = cases_of(results, model)
    columns = [column for column in COLUMNS if column[0] in cases]
    ours = dict.fromkeys(
        name for entry in cases.values() for name in entry["subjects"] if name.startswith("embedge")
    )
    theirs = dict.fromkeys(name for entry in cases.values() for name in entry["subjects"] if name not in ours)
    rows = []
    for subject in ours:
        for rival in theirs:
            found = [ratio(cases[case], subject, rival, figure) for case, figure, _ in columns]
            if any(value is not None for value in found):
                label = next(e["subjects"][rival]["label"] for e in cases.values() if rival in e["subjects"])
                rows.append([f"{_label(cases, subject)} / {label}", *(_times(value) for value in found)])
    return table(["times better (below 1: worse)", *(title for _, _, title in columns)], rows)


def details(entry: dict) -> str:
    """All figures of one case, with the range of the runs."""
    subjects = entry["subjects"]
    figures = [f for f in FIGURES if any(f in run for s in subjects.values() for run in s["runs"])]
    rows = []
    for name, facts in subjects.items():
        row = [facts["label"], str(len(facts["runs"]))]
        for figure in figures:
            found = [run[figure] for run in facts["runs"] if figure in run]
            row.append(
                f"{number(statistics.median(found))} ({number(min(found))}–{number(max(found))})"
                if found
                else "–"
            )
        row += [_times(ratio(entry, name, REFERENCE, figure)) for figure in figures[:1]]
        rows.append([*row, _fidelity(facts, name)])
    header = ["system", "runs", *(FIGURES[f].title for f in figures)]
    header += [f"times better than {REFERENCE}, {FIGURES[f].title}" for f in figures[:1]]
    return table([*header, _fidelity_title(entry["case"])], rows)


def ratios_against(results: dict, model: str, rivals: tuple[str, ...]) -> str:
    """`ratios`, for some rivals only."""
    kept = {
        key: entry
        | {
            "subjects": {
                name: facts
                for name, facts in entry["subjects"].items()
                if name.startswith("embedge") or name in rivals
            }
        }
        for key, entry in results["cases"].items()
    }
    return ratios(results | {"cases": kept}, model)


def table(header: list[str], rows: list[list[str]], *, words: bool = False) -> str:
    """A Markdown table; all but the first column to the right, unless the cells are words."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + ("---|" if words else "---:|") * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value: float | None) -> str:
    """Three significant digits, thousands separated."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def models_of(results: dict) -> list[str]:
    """Names of the measured models."""
    return list(dict.fromkeys(entry["model"] for entry in results["cases"].values()))


def cases_of(results: dict, model: str) -> dict[str, dict]:
    """A model's cases by name, in the order of CASES."""
    found = {entry["case"]: entry for entry in results["cases"].values() if entry["model"] == model}
    return {name: found[name] for name in CASES if name in found}


def label_of(results: dict, model: str) -> str:
    """What a model was when its cases were measured."""
    return "; ".join(dict.fromkeys(entry["label"] for entry in cases_of(results, model).values()))


def _names(cases: dict) -> list[str]:
    return list(dict.fromkeys(name for entry in cases.values() for name in entry["subjects"]))


def _label(cases: dict, subject: str) -> str:
    return next(
        entry["subjects"][subject]["label"] for entry in cases.values() if subject in entry["subjects"]
    )


def _best(entry: dict, figure: str, names: list[str]) -> float | None:
    found = [median(entry["subjects"].get(name, {"runs": []}), figure) for name in names]
    known = [value for value in found if value is not None]
    if not known:
        return None
    return max(known) if FIGURES[figure].higher_is_better else min(known)


def _fidelity_title(case: str) -> str:
    if CASES[case].kind == "rerank":
        return "correlation with float32's scores, min / mean"
    return "cosine to float32, min / mean"


def _fidelity(facts: dict | None, name: str) -> str:
    if facts is None:
        return "–"
    if "error" in facts:
        return f"failed: {facts['error'].replace('|', '/')[:160]}"
    if name == REFERENCE:
        return "reference"
    cosine = facts["agreement"]
    text = f"{_cosine(cosine['cosine_min'])} / {_cosine(cosine['cosine_mean'])}"
    return text if cosine["cosine_min"] >= FLOOR[facts["precision"]] else f"{text} (other answers)"


def _cosine(value: float) -> str:
    """Cut, not rounded: 1.0000 means at least 0.99999."""
    if value >= 0.99999:
        return "1.0000"
    return f"{int(value * 1e5) / 1e5:.5f}"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}x"
