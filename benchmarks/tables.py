"""Results to Markdown and plots: benchmarks/results/NAME.json to NAME.md, NAME-*.png and .svg, and README's section."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.models import MODELS, ROOT
from benchmarks.subjects import REFERENCE

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
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
    ("start", "peak_rss_mb", "RSS, one query (MB)"),
    ("passages", "peak_rss_mb", "RSS, passages (MB)"),
)
"""Case, figure and title of the overview's columns."""


def median(subject: dict, figure: str) -> float | None:
    """Median of a figure over a subject's runs; None where there is none."""
    found = [run[figure] for run in subject["runs"] if figure in run]
    return statistics.median(found) if found else None


def ratio(entry: dict, subject: str, against: str, figure: str) -> float | None:
    """Median over the rounds of how many times better `subject` was than `against` in the same round."""
    runs = (
        entry["subjects"].get(subject, {}).get("runs", []),
        entry["subjects"].get(against, {}).get("runs", []),
    )
    pairs = [(a[figure], b[figure]) for a, b in zip(*runs, strict=False) if figure in a and figure in b]
    if not pairs:
        return None
    better = FIGURES[figure].higher_is_better
    return statistics.median(a / b if better else b / a for a, b in pairs)


def overview(results: dict, model: str) -> str:
    """One row per subject with the figures that a reader compares."""
    cases = _cases(results, model)
    columns = [column for column in COLUMNS if column[0] in cases]
    names = _names(cases)
    best = {column: _best(cases[column[0]], column[1], names) for column in columns}
    fidelity = next((name for name in ("passages", "passages2k", "short", *cases) if name in cases), None)
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
        "cosine to float32, min / mean",
    ]
    return table(header, rows)


def roofline(results: dict, model: str, operators: dict) -> str:
    """Share of onnxruntime's own rate of matrix products that each subject reaches, per case.

    Args:
        results: of `run`.
        model: name in MODELS.
        operators: results of benchmarks.operators on the same machine.
    """
    cases = {name: entry for name, entry in _cases(results, model).items() if CASES[name].kind == "bulk"}
    rows = []
    for name in _names(cases):
        precision = next(e["subjects"][name]["precision"] for e in cases.values() if name in e["subjects"])
        ceiling = operators["ceilings"].get(f"{precision} {MODELS[model].hidden}")
        row = [_label(cases, name), "–" if ceiling is None else f"{ceiling:,.0f}"]
        for entry in cases.values():
            rate = median(entry["subjects"].get(name, {"runs": []}), "tokens_per_s")
            flop = MODELS[model].flop_per_token(entry["texts"]["own_length"])
            known = rate is not None and ceiling is not None
            row.append(
                f"{rate * flop / 1e9:,.0f} ({100 * rate * flop / 1e9 / ceiling:.0f} %)" if known else "–"
            )
        if ceiling is not None:
            rows.append(row)
    return table(["system", "ceiling (GFLOP/s)", *(f"{name} (GFLOP/s, share)" for name in cases)], rows)


def ratios(results: dict, model: str) -> str:
    """How many times better each embedge variant is than its rivals, per case; losses are below 1."""
    cases = _cases(results, model)
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
        row = [facts["label"]]
        for figure in figures:
            found = [run[figure] for run in facts["runs"] if figure in run]
            row.append(
                f"{number(statistics.median(found))} ({number(min(found))}–{number(max(found))})"
                if found
                else "–"
            )
        row.append(_times(ratio(entry, name, REFERENCE, figures[0])))
        rows.append([*row, _fidelity(facts, name)])
    header = ["system", *(FIGURES[f].title for f in figures), f"times better, {FIGURES[figures[0]].title}"]
    return table([*header, "cosine to float32, min / mean"], rows)


def render(results: dict, operators: dict | None = None) -> str:
    """The whole results file as Markdown; with a roofline where the machine's operators were measured."""
    parts = [f"# Measurements\n\n{_conditions(results)}\n"]
    for model in _models(results):
        parts.append(f"## {MODELS[model].label}\n\n{overview(results, model)}\n\n{ratios(results, model)}\n")
        if operators is not None and operators["machine"] == results["machine"]:
            parts.append(
                "### Share of the matrix-product ceiling\n\nGFLOP/s of all matrix products, attention included, "
                f"against the rate at which onnxruntime {operators['onnxruntime']} multiplies the "
                f"layer's matrices alone.\n\n"
                f"{roofline(results, model, operators)}\n"
            )
        for name, entry in _cases(results, model).items():
            texts, others = entry["texts"], _disturbance(entry)
            parts.append(
                f"### {name}: {CASES[name].what}\n\n{texts['tokens']:,} tokens, mean {texts['tokens_mean']:g}, longest "
                f"{texts['tokens_max']}; sha256 of the texts {texts['sha256'][:16]}. {entry['repeats']} processes per "
                f"system, in turn, {entry['date']}; other processes used {others}.\n\n{details(entry)}\n"
            )
    parts.append(f"## Versions\n\n{_versions(results)}\n")
    return "\n".join(parts)


def readme_section(results: dict, name: str) -> str:
    """What stands in README between the markers."""
    model = next(iter(_models(results)))
    lines = [
        f"{MODELS[model].label} on {_conditions(results)}",
        "",
        overview(results, model),
        "",
        f"![start, query latency and throughput of each system](benchmarks/results/{name}-{model}.png)",
        "",
        ratios_against(results, model, RIVALS),
        "",
        f"`make bench` measures again; [benchmarks/results/{name}.md](benchmarks/results/{name}.md) has all figures.",
    ]
    return "\n".join(lines)


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


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value: float | None) -> str:
    """Three significant digits, thousands separated."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def write(file: Path, *, readme: bool = True) -> None:
    """Render a results file beside itself, and into README."""
    from benchmarks.plots import plot

    results = json.loads(file.read_text())
    file.with_suffix(".md").write_text(render(results, operators_beside(file)))
    for model in _models(results):
        plot(results, model, file.with_name(f"{file.stem}-{model}"))
    if readme:
        path = ROOT / "README.md"
        text = path.read_text()
        before, rest = text.split(BEGIN, 1)
        _, after = rest.split(END, 1)
        path.write_text(f"{before}{BEGIN}\n{readme_section(results, file.stem)}\n{END}{after}")


def operators_beside(file: Path) -> dict | None:
    """NAME-operators.json next to NAME.json, if it was measured."""
    beside = file.with_name(f"{file.stem}-operators.json")
    return json.loads(beside.read_text()) if beside.is_file() else None


def _models(results: dict) -> list[str]:
    return list(dict.fromkeys(entry["model"] for entry in results["cases"].values()))


def _cases(results: dict, model: str) -> dict[str, dict]:
    found = {entry["case"]: entry for entry in results["cases"].values() if entry["model"] == model}
    return {name: found[name] for name in CASES if name in found}


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


def _fidelity(facts: dict | None, name: str) -> str:
    if facts is None:
        return "–"
    if "error" in facts:
        return f"failed: {facts['error']}"
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


def _disturbance(entry: dict) -> str:
    found = [run["others_cores"] for facts in entry["subjects"].values() for run in facts["runs"]]
    if not found:
        return "unknown"
    return f"{statistics.median(found):.2f} cores (median of the runs; worst {max(found):.2f})"


def _conditions(results: dict) -> str:
    machine = results["machine"]
    threads = sorted({entry["threads"] for entry in results["cases"].values()})
    repeats = sorted({entry["repeats"] for entry in results["cases"].values()})
    chip = machine["cpu"]
    if machine["family"]:
        chip += f" (family {machine['family']}, model {machine['model']})"
    text = (
        f"{chip}, {machine['cores']} cores, {', '.join(machine['flags']) or 'no vector flags'}, {machine['system']}; "
        f"{', '.join(map(str, threads))} threads for every system. Medians of {', '.join(map(str, repeats))} fresh "
        "processes, systems in turn; the same texts cut to the same 256 tokens; vectors compared with "
        "sentence-transformers in float32."
    )
    if results.get("imports"):
        cost = results["imports"]
        text += (
            f" A process that only runs `import embedge` takes {cost['embedge_ms']:.0f} ms, "
            f"`import numpy, msgspec` {cost['numpy_msgspec_ms']:.0f} ms."
        )
    return text


def _versions(results: dict) -> str:
    rows = {}
    for entry in results["cases"].values():
        for facts in entry["subjects"].values():
            if "versions" in facts:
                versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
                rows[facts["label"]] = [facts["label"], versions, facts["python"], str(facts["packages"])]
    return table(["system", "versions", "Python", "packages with requirements"], list(rows.values()))
