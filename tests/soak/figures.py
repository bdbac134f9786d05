"""Figures of reliability in benchmarks/results/reliability.md, each part between markers of its own."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy
import onnxruntime
from tests.soak.running import Soak
from tests.soak.watching import Held

from embedge._machine.cpu import available_threads, cpu_name

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "reliability.md"
_HEAD = "# Reliability\n\nEach part is written by the command that it names.\n"


def section(seen: Soak, loads: tuple[Held, Held], failing: tuple[Held, Held], count: int) -> str:
    """What was seen, as Markdown."""
    counts = seen.counts
    tenths = [each[0].rss_mib for each in _parts(seen.samples, 10)]
    lines = [
        "## Soak",
        "",
        f"`make soak`, {datetime.now(UTC):%Y-%m-%d}: {seen.seconds / 60:.1f} minutes, {available_threads()} "
        f"processors of {cpu_name()}, onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}. Threads with "
        "single texts, few and many, reranking, streams left half read, deadlines, asyncio with cancellations, loads "
        "of a bundle that is replaced meanwhile and of damaged ones, all at once on a tiny bundle; every embedding "
        "is compared with the one that numpy computes.",
        "",
        "| | |",
        "|---|---:|",
        f"| calls | {counts.get('calls', 0):,} |",
        f"| texts | {counts.get('texts', 0):,} |",
        f"| of these calls ended early, as asked | {counts.get('ended_early', 0):,} |",
        f"| bundles loaded meanwhile; refused | {counts.get('loads', 0):,}; {counts.get('failed_loads', 0):,} |",
        f"| answers lost; swapped; wrong | {'; '.join(str(counts.get(n, 0)) for n in ('lost', 'swapped', 'wrong'))} |",
        f"| unexpected errors; threads that hung | {counts.get('unexpected', 0)}; {len(seen.hung)} |",
        f"| resident memory, second and last thirtieth of the time (target: < 2 %) | {seen.early.rss_mib:.1f}; "
        f"{seen.late.rss_mib:.1f} MiB ({seen.growth:+.1%}) |",
        f"| the same at the beginning of each tenth, MiB | {' '.join(f'{each:.0f}' for each in tenths)} |",
        f"| before the model was loaded; after it was closed | {_words(seen.start)}; {_words(seen.end)} |",
        f"| {count:,} × load, answer, close (target: < 20 MiB more): before; after | {_words(loads[0])}; "
        f"{_words(loads[1])} |",
        f"| {count:,} × a load that fails (the same): before; after | {_words(failing[0])}; {_words(failing[1])} |",
    ]
    return "\n".join(lines)


def write(name: str, text: str, file: Path = FILE, head: str = _HEAD) -> None:
    """Put a part in its place, or after the others.

    Args:
        name: of the part's markers.
        text: of the part.
        file: where.
        head: of a new file.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    whole = f"{begin}\n{text}\n{end}"
    present = file.read_text() if file.exists() else head
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(present):
        file.write_text(pattern.sub(lambda _: whole, present))
    else:
        file.write_text(f"{present.rstrip()}\n\n{whole}\n")


def _parts(samples: list[Held], count: int) -> list[list[Held]]:
    size = max(1, len(samples) // count)
    return [samples[i : i + size] for i in range(0, len(samples), size)][:count]


def _words(held: Held) -> str:
    return (
        f"{held.rss_mib:.1f} MiB ({held.kept_mib:.1f} in use), {held.threads} threads, {held.descriptors} descriptors, "
        f"{held.mappings} mappings"
    )
