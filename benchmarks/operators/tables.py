"""Markdown of what was timed."""

from __future__ import annotations

from benchmarks.tables import number, table


def render(results: dict) -> str:
    """Markdown of a results file."""
    machine_ = results["machine"]
    parts = [
        f"# Operators\n\n{machine_['cpu']}, {machine_['cores']} cores, {', '.join(machine_['flags'])}; onnxruntime "
        f"{results['onnxruntime']}. Medians of {results['rounds']} rounds; 1x2 is one run on two threads, 2x1 two runs "
        "at a time on one thread each, milliseconds per run.\n",
        "Products of a BERT layer, one after the other: "
        + ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in results["ceilings"].items())
        + ".\n",
    ]
    modes = list(dict.fromkeys(each["threads"] for each in results["operators"]))
    for group in dict.fromkeys(each["group"] for each in results["operators"]):
        members = [each for each in results["operators"] if each["group"] == group]
        unit, title = (
            ("gflop_per_s", "GFLOP/s") if group == "product" else ("ns_per_element", "ns per element")
        )
        rows = []
        for key in dict.fromkeys((each["shape"], each["name"]) for each in members):
            by_mode = {each["threads"]: each for each in members if (each["shape"], each["name"]) == key}
            cells = [
                _small(by_mode[mode][field]) if mode in by_mode else "–"
                for field in ("ms", unit)
                for mode in modes
            ]
            rows.append([key[1], key[0], *cells])
        header = ["operator", "shape", *(f"ms, {m}" for m in modes), *(f"{title}, {m}" for m in modes)]
        parts.append(f"## {group}\n\n{table(header, rows)}\n")
    return "\n".join(parts)


def _small(value: float) -> str:
    return number(value) if value >= 1 else f"{value:.3f}"
