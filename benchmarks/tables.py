"""Results to Markdown: benchmarks/results/*.json to a section of README.md."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.runner import REFERENCE, ROOT

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
SHOWN = {
    "start": ("start_s", "s", "lower"),
    "query": ("p50_ms", "ms, p50", "lower"),
    "short": ("texts_per_s", "texts/s", "higher"),
    "passages": ("texts_per_s", "texts/s", "higher"),
}
NAMES = {
    "embedge_fp32": "**embedge** fp32",
    "embedge_int8": "**embedge** int8",
    "sentence_transformers_torch": "sentence-transformers, torch",
    "fastembed_onnx": "fastembed",
    "plain_onnxruntime": "onnxruntime script",
}


def render(results: dict) -> str:
    """A table with one row per subject: figure, and how many times better than sentence-transformers."""
    cases = [name for name in SHOWN if name in results["cases"]]
    subjects = list(dict.fromkeys(s for name in cases for s in results["cases"][name]["subjects"]))
    header = ["system", *(f"{CASES[n].what} ({SHOWN[n][1]})" for n in cases), "peak RSS (MB)", "min cosine"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for subject in subjects:
        row = [NAMES.get(subject, subject)]
        for name in cases:
            figure, _, better = SHOWN[name]
            measured = results["cases"][name]["subjects"]
            value = measured[subject]["figures"][figure]["median"]
            base = measured.get(REFERENCE, measured[subject])["figures"][figure]["median"]
            ratio = value / base if better == "higher" else base / value
            row.append(f"{value:,.2f} ({ratio:.2f}x)" if value < 100 else f"{value:,.0f} ({ratio:.2f}x)")
        last = results["cases"][cases[-1]]["subjects"][subject]
        row += [
            f"{last['figures']['peak_rss_mb']['median']:,.0f}",
            f"{last.get('cosine', {}).get('min', 1):.6f}",
        ]
        lines.append("| " + " | ".join(row) + " |")
    machine = results["machine"]
    note = (
        f"all-MiniLM-L6-v2, float32 checkpoint, {machine['cpu']}, {results['threads']} threads, "
        f"Python {machine['python']}. Medians of {results['repeats']} fresh processes per cell, run in turn; "
        "in brackets how many times better than sentence-transformers. Same texts, 256 tokens, same threads for all."
    )
    if "import_ratio" in results:
        note += (
            f" `import embedge` costs {results['import_ratio']['median']:.2f}x of `import numpy, msgspec`."
        )
    return "\n".join([*lines, "", note, ""])


def write(results_file: Path) -> None:
    """Render a result beside itself and into README.md."""
    table = render(json.loads(results_file.read_text()))
    results_file.with_suffix(".md").write_text(table)
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    readme.write_text(f"{before}{BEGIN}\n{table}\nMeasured with `make bench`.\n{END}{after}")
