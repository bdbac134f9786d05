"""A results file as a page and plots beside it (NAME.md, NAME-*.png and .svg), and as the section of docs/speed.md."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from benchmarks import profiling, targets
from benchmarks.cases import CASES
from benchmarks.models import MODELS, ROOT
from benchmarks.scaling import CURVES
from benchmarks.subjects import REFERENCE
from benchmarks.tables import (
    COLUMNS,
    cases_of,
    details,
    label_of,
    models_of,
    number,
    overview,
    ratios,
    ratios_against,
    roofline,
    table,
)

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
RIVALS = (REFERENCE, "fastembed")
CEILING = (
    "GFLOP/s of all matrix products, attention included, and their share of the rate at which onnxruntime {version} "
    "multiplies the layer's matrices alone."
)


def render(results: dict, operators: dict | None = None) -> str:
    """The whole results file as Markdown; with a roofline where the machine's operators were measured."""
    parts = [
        f"# Measurements\n\n{_conditions(results)}\n",
        f"## Targets\n\n{targets.MODEL} where no other is named: medians of the ratios in each round, embedge to the "
        "other.\n\n"
        f"{targets.render(results, operators)}\n",
    ]
    for model in models_of(results):
        parts.append(
            f"## {label_of(results, model)}\n\n{overview(results, model)}\n\n{ratios(results, model)}\n"
        )
        if operators is not None:
            shares = roofline(results, model, operators)
            if shares:
                words = CEILING.format(version=operators["onnxruntime"])
                parts.append(f"### Share of the matrix-product ceiling\n\n{words}\n\n{shares}\n")
        for name, entry in cases_of(results, model).items():
            told = _texts(entry, results.get("loop_ms"))
            parts.append(f"### {model}, {name}: {CASES[name].what}\n\n{told}\n\n{details(entry)}\n")
    for name, entry in results.get("scaling", {}).items():
        parts.append(f"## {_curve(name, entry)}\n\n{curve_table(name, entry)}\n")
    if results.get("profile"):
        label = MODELS[results["profile"]["model"]].label
        parts.append(f"## Where the time goes: {label}\n\n{profiling.render(results)}\n")
    parts.append(f"## Versions\n\n{_versions(results)}\n")
    return "\n".join(parts)


def section(results: dict, name: str, operators: dict | None = None) -> str:
    """What stands in docs/speed.md between the markers."""
    lines: list[str] = []
    others: list[tuple[str, str]] = []
    for model in models_of(results):
        if model == targets.MODEL:
            lines += [
                f"{label_of(results, model)} on {_conditions(results)}",
                "",
                overview(results, model),
                "",
                f"![start, latency, throughput and memory of each system](../benchmarks/results/{name}-{model}.png)",
                "",
                _columns(cases_of(results, model)),
                "",
                "What it is held to. A ratio is the median over the rounds in which both took part, and not all took "
                "part in all, so that the quotient of two cells above may differ.",
                "",
                targets.render(results, operators),
                "",
                *([profiling.explain(results), ""] if results.get("profile") else []),
            ]
        else:
            others.append((label_of(results, model), ratios_against(results, model, RIVALS)))
    if others:
        lines += ['Other models; of times and memory, "2x better" is half as much:', ""]
    for label, compared in others:
        lines += [f"{label}:", "", compared, ""]
    if results.get("scaling"):
        lines += [
            f"![time and memory by number and length of texts](../benchmarks/results/{name}-scaling.png)",
            "",
        ]
    page = f"[benchmarks/results/{name}.md](../benchmarks/results/{name}.md)"
    return "\n".join([*lines, f"`make bench` measures again; {page} has all figures, losses included."])


CURVE_COLUMNS = {
    "stream": (("seconds", "s"), ("texts_per_s", "texts/s"), ("first_rss_mb", "RSS after the first (MB)")),
    "length": (("tokens_per_s", "tokens/s"),),
    "memory": (("seconds", "s"), ("run_mb", "memory of the call (MB)")),
}


def curve_table(name: str, entry: dict) -> str:
    """One row per point of a curve, columns for each subject."""
    action = CURVES[name].action
    columns = (*CURVE_COLUMNS[action], ("peak_rss_mb", "peak RSS (MB)"))
    subjects = entry["subjects"]
    points = sorted({int(point) for facts in subjects.values() for point in facts["points"]})
    rows = []
    for point in points:
        row = [f"{point:,}"]
        for facts in subjects.values():
            found = facts["points"].get(str(point), {})
            row += ["failed" if "error" in found else number(found.get(key)) for key, _ in columns]
            row.append(
                number(found.get("cosine_min")) if "cosine_min" not in found else f"{found['cosine_min']:.5f}"
            )
        rows.append(row)
    header = [
        f"{facts['label']}: {title}"
        for facts in subjects.values()
        for title in (*(title for _, title in columns), "smallest cosine")
    ]
    failed = {
        facts["label"]: found["error"]
        for facts in subjects.values()
        for found in ({"error": facts["error"]} if "error" in facts else {}, *facts["points"].values())
        if "error" in found
    }
    words = "".join(f"\n\n{label} failed: {error}" for label, error in failed.items())
    return table(["texts" if action == "stream" else "tokens per text", *header], rows) + words


def write(file: Path, *, page: bool = True) -> None:
    """Render a results file beside itself, and into docs/speed.md."""
    from benchmarks.plots import plot, plot_scaling

    results = json.loads(file.read_text())
    operators = operators_beside(file, results)
    # first what needs a package that may not be there
    for model in models_of(results):
        plot(results, model, file.with_name(f"{file.stem}-{model}"))
    if results.get("scaling"):
        plot_scaling(results, file.with_name(f"{file.stem}-scaling"))
    file.with_suffix(".md").write_text(render(results, operators))
    if page:
        before, rest = PAGE.read_text().split(BEGIN, 1)
        _, after = rest.split(END, 1)
        PAGE.write_text(f"{before}{BEGIN}\n{section(results, file.stem, operators)}\n{END}{after}")


def operators_beside(file: Path, results: dict) -> dict | None:
    """NAME-operators.json next to NAME.json, if it was measured on the same machine."""
    beside = file.with_name(f"{file.stem}-operators.json")
    operators = json.loads(beside.read_text()) if beside.is_file() else None
    return operators if operators and operators["machine"] == results["machine"] else None


def _texts(entry: dict, fastest_ms: float | None) -> str:
    texts, runs = entry["texts"], [run for facts in entry["subjects"].values() for run in facts["runs"]]
    others = [run["others_cores"] for run in runs]
    busy = f"{statistics.median(others):.2f} cores, at worst {max(others):.2f}" if others else "unknown"
    loops = [run["loop_ms"] / fastest_ms for run in runs if fastest_ms and "loop_ms" in run]
    if loops:
        busy += (
            f"; a loop of Python took {statistics.median(loops):.2f} times its shortest time, at worst "
            f"{max(loops):.2f}"
        )
    return (
        f"{texts['texts']:,} text{'s' * (texts['texts'] > 1)}, {texts['tokens']:,} tokens, mean "
        f"{texts['tokens_mean']:g}, longest {texts['tokens_max']}; sha256 of the texts {texts['sha256'][:16]}. "
        f"Measured {entry['date']}, sources {entry['sources']}; other processes used {busy}."
    )


def _columns(entries: dict[str, dict]) -> str:
    """What the columns of an overview are of, in tokens of the texts that were measured."""
    titles = {
        case: title.removesuffix(" (texts/s)") for case, figure, title in COLUMNS if figure == "texts_per_s"
    }
    said = []
    for name, entry in entries.items():
        if name in titles:
            texts = entry["texts"]
            size = f"{texts['tokens_mean']:.0f} tokens on average, {texts['tokens_max']} at most"
            if texts["tokens_mean"] == texts["tokens_max"]:
                size = f"{texts['tokens_max']} tokens each"
            said.append(f"{titles[name]}: {texts['texts']:,} texts in one call, {size}")
    versions = {
        name: version
        for entry in entries.values()
        for name, version in entry["subjects"].get(REFERENCE, {}).get("versions", {}).items()
    }
    said.append("one query: about 16 tokens")
    return (
        f"{'; '.join(said)}. The checkpoint states a limit of 256 tokens; 512 are what its positions allow. A script "
        'is a careful program around a library that is no more than a runtime; "–" was not measured, the best of a '
        "column is bold. sentence-transformers is "
        f"{versions.get('sentence-transformers', 'of no known version')}, as far as its ONNX and OpenVINO backends go "
        "with it."
    )


def _curve(name: str, entry: dict) -> str:
    return f"{MODELS[entry['model']].label}, {CURVES[name].what}"


def _conditions(results: dict) -> str:
    machine, entries = results["machine"], results["cases"].values()
    threads = sorted({entry["threads"] for entry in entries})
    rounds = sorted(
        {len(facts["runs"]) for entry in entries for facts in entry["subjects"].values() if facts["runs"]}
    )
    span = "–".join(dict.fromkeys(str(each) for each in (rounds[0], rounds[-1]))) if rounds else "0"
    chip = machine["cpu"]
    if machine["family"]:
        chip += f" (family {machine['family']}, model {machine['model']})"
    flags = ", ".join(machine["flags"]) or "no vector flags"
    text = (
        f"{chip}, {machine['cores']} cores, {flags}, {machine['system']}; {', '.join(map(str, threads))} threads for "
        f"every system. Medians over fresh processes ({span} per system and case), systems in turn; the same texts "
        "cut to the same number of tokens; vectors compared with sentence-transformers in float32."
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
    return table(
        ["system", "versions", "Python", "packages with requirements"], list(rows.values()), words=True
    )
