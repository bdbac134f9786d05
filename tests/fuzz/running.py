"""Workers are watched: a case that hangs or ends its process is known by its number, and the rest goes on."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from tests.fuzz.kinds import KINDS
from tests.fuzz.worker import MOST_CPU_S

FINE = ("answered", "refused")
_PER_WORKER = 2000
_MOST_WALL_S = 300.0
"""Where other programs take the processors, a case may wait for them."""


class Finding(msgspec.Struct, frozen=True):
    """A case that ended as none may.

    Attributes:
        kind, seed, index: which; `python -m tests.fuzz KIND --seed S --case INDEX` runs it again.
        outcome: foreign (an exception that is not ours), differs, message, memory, slow, hang, abort.
        words: what was seen.
    """

    kind: str
    seed: int
    index: int
    outcome: str
    words: str


class Summary(msgspec.Struct):
    """What came of the cases of one kind.

    Attributes:
        kind: name.
        tried: things tried, of which a case may hold several.
        seconds: that it took.
        outcomes: cases by outcome; of refused ones by error.
        findings: those that ended as none may.
    """

    kind: str
    tried: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    refusals: Counter[str] = msgspec.field(default_factory=Counter)
    findings: list[Finding] = msgspec.field(default_factory=list)


def fuzz(
    kind: str,
    count: int | None,
    seed: int,
    *,
    first: int = 0,
    tell: Callable[[Finding], None] = lambda _: None,
) -> Summary:
    """Run cases of a kind in processes of their own.

    Args:
        kind: name in KINDS.
        count: things to try; None: all there are.
        seed: of the cases.
        first: number of the first case.
        tell: is told of each finding.
    """
    per_case = KINDS[kind].per_case
    last = 1 << 40 if count is None else first + -(-count // per_case)
    summary, start = Summary(kind), time.monotonic()
    index = first
    while index < last:
        index, complete = _watch(kind, seed, index, min(last, index + _PER_WORKER), summary, tell)
        if complete:
            break
    summary.tried = sum(summary.outcomes.values()) * per_case
    summary.seconds = time.monotonic() - start
    return summary


def _watch(
    kind: str, seed: int, first: int, last: int, summary: Summary, tell: Callable[[Finding], None]
) -> tuple[int, bool]:
    """Run a worker to its end; returns the next case, and whether there is none."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as words, os.fdopen(reading, "rb", buffering=0) as report:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", kind, *map(str, (seed, first, last)), str(writing)],
            pass_fds=[writing],
            stdout=words,
            stderr=words,
            env={**os.environ, "RUST_BACKTRACE": "0"},
            start_new_session=True,
        )
        os.close(writing)
        current = None
        end: tuple[int, bool] | None = None
        outcome, said = "abort", ""
        for facts in _lines(report, process):
            if facts is None:
                outcome, said = (
                    "hang",
                    f"more than {MOST_CPU_S:.0f} s of the processor, or {_MOST_WALL_S:.0f} s",
                )
                break
            if "begun" in facts:
                current = facts["begun"]
            elif "done" in facts:
                _count(summary, Finding(kind, seed, facts["done"], facts["outcome"], facts["words"]), tell)
                current = None
            else:
                end = facts["end"], facts["complete"]
        process.kill()
        status = process.wait()
        if end is not None:
            return end
        if current is None:
            words.seek(0)
            raise RuntimeError(f"the worker failed between cases, status {status}: {words.read()[-2000:]!r}")
        if outcome == "abort":
            words.seek(0)
            said = f"status {status}, {words.read()[-300:]!r}"
        _count(summary, Finding(kind, seed, current, outcome, said), tell)
        return current + 1, False


def _count(summary: Summary, found: Finding, tell: Callable[[Finding], None]) -> None:
    summary.outcomes[found.outcome] += 1
    if found.outcome == "refused":
        summary.refusals[found.words] += 1
    elif found.outcome not in FINE:
        summary.findings.append(found)
        tell(found)


def _lines(report: object, process: subprocess.Popen[bytes]) -> Iterator[dict | None]:
    """What a worker reports; None where its case takes too long."""
    begun, cpu_s, rest = None, 0.0, b""
    with selectors.DefaultSelector() as selector:
        selector.register(report, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=1):
                if begun is not None and (
                    _cpu_s(process.pid) - cpu_s > MOST_CPU_S + 1 or time.monotonic() - begun > _MOST_WALL_S
                ):
                    yield None
                    return
                continue
            chunk = report.read(1 << 16)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                facts = json.loads(line)
                begun, cpu_s = (time.monotonic(), facts["cpu_s"]) if "begun" in facts else (None, 0.0)
                yield facts


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
