"""The measured jobs as a section of docs/speed.md."""

from __future__ import annotations

import statistics

from benchmarks.jobs.systems import REFERENCE
from benchmarks.models import ROOT
from benchmarks.tables import table

PAGE = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- jobs:begin -->", "<!-- jobs:end -->"

_WORDS = (
    "{rows} short texts with identifiers, {tokens} tokens each, become saved vectors of all-MiniLM-L6-v2: whole "
    "processes, imports and loading included; each system as its documentation has it, with its own number of "
    "threads. Medians; rounds in which the systems take turns: {rounds}. On {machine[cpu]} (family "
    "{machine[family]}, model {machine[model]}), {machine[cores]} cores. Peak memory is that of a process and its "
    "children. llm reads no Parquet and gets the same rows as CSV; fastembed gets as a folder what it would "
    "download. The last column compares what was saved with what sentence-transformers saved."
)


def section(results: dict) -> str:
    """What stands between the markers."""
    systems = results["systems"]
    header = ["the same job", "from", "to", "wall (s)", "texts/s", "peak RSS (MB)", "lines of code"]
    rows = []
    for name, each in systems.items():
        row = [each["label"], each["reads"], each["writes"]]
        if not each["runs"]:
            rows.append([*row, "failed", "–", "–", str(each["lines"]), "–"])
            continue
        wall_s = statistics.median(run["wall_s"] for run in each["runs"])
        peak_mb = statistics.median(run["peak_mb"] for run in each["runs"])
        rate = results["rows"] / wall_s
        cosine = "reference" if name == REFERENCE else f"{each['cosine_min']:.5f} / {each['cosine_mean']:.5f}"
        rows.append([*row, f"{wall_s:.1f}", f"{rate:,.0f}", f"{peak_mb:.0f}", str(each["lines"]), cosine])
    failed = [f"{each['label']} failed: {each['error']}" for each in systems.values() if each.get("error")]
    versions = dict(
        pair
        for each in systems.values()
        for pair in each["versions"].items()
        if pair[0] not in ("torch", "transformers")
    )
    parts = [
        "## From a file to saved vectors",
        _WORDS.format(
            **results | {"rows": f"{results['rows']:,}", "tokens": f"{results['tokens_mean']:.0f}"}
        ),
        table([*header, "cosine, min / mean"], rows),
        *failed,
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}. `make bench-jobs` measures again.",
    ]
    return "\n\n".join(parts)


def write(results: dict) -> None:
    """Put the section into docs/speed.md."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{section(results)}\n{END}{after}", encoding="utf-8")
