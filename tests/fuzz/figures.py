"""What came of fuzzing, as a part of benchmarks/results/reliability.md."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from tests.fuzz.kinds import KINDS

if TYPE_CHECKING:
    from tests.fuzz.running import Summary

_MOST_FINDINGS = 20


def section(summaries: Sequence[Summary], seed: int) -> str:
    """A table of what was tried and how it ended, as Markdown."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("onnxruntime", "tokenizers", "msgspec", "numpy")
    )
    lines = [
        "## Hostile bundles, prompts and parameters",
        "",
        f"`make fuzz`, seed {seed}, {datetime.now(UTC):%Y-%m-%d}, {versions}. Every case runs in a "
        "worker that is watched; it has to end within 5 s of processor time and twice the memory of the sound bundle, "
        "in an answer or in one of our errors, whose message is one printable line.",
        "",
        "| tried | number | answered | refused | exceptions of others | crashes | hangs, slow | memory | wrong "
        "answers | bad messages |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for summary in summaries:
        seen = summary.outcomes
        counts = (
            *(seen["answered"], seen["refused"], seen["foreign"], seen["abort"], seen["hang"] + seen["slow"]),
            *(seen["memory"], seen["differs"], seen["message"]),
        )
        cells = " | ".join(f"{count:,}" for count in counts)
        calls = f" in {sum(seen.values()):,} calls" if KINDS[summary.kind].per_case > 1 else ""
        lines.append(f"| {KINDS[summary.kind].what}{calls} | {summary.tried:,} | {cells} |")
    found = [
        f"- {each.kind}, case {each.index}: {each.outcome}, {each.words}"
        for summary in summaries
        for each in summary.findings[:_MOST_FINDINGS]
    ]
    return "\n".join([*lines, *([""] if found else []), *found])
