"""Fuzz bundles, prompts and parameters.

python -m tests.fuzz manifests --count 20000 --seed 1   # one kind
python -m tests.fuzz manifests --seed 1 --case 17       # one case again, with its traceback
python -m tests.fuzz all --write                        # the long form of all, figures into reliability.md
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.figures import section
from tests.fuzz.kinds import KINDS
from tests.fuzz.running import Finding, Summary, fuzz
from tests.soak.figures import write


def main() -> int:
    """Run what is asked for; the status is the number of findings, 99 at most."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("--count", type=int, help="things to try; the long form's where it is not given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=1, help="kinds at a time")
    parser.add_argument("--case", type=int, help="run one case in this process, and show what it raises")
    parser.add_argument(
        "--write", action="store_true", help="put the figures into benchmarks/results/reliability.md"
    )
    asked = parser.parse_args()
    if asked.case is not None:
        with tempfile.TemporaryDirectory() as scratch:
            KINDS[asked.kind].make(Path(scratch)).run(asked.case, random.Random(f"{asked.seed}/{asked.case}"))
        return 0
    kinds = [*KINDS] if asked.kind == "all" else [asked.kind]
    with ThreadPoolExecutor(asked.jobs) as pool:
        summaries = list(pool.map(lambda kind: _fuzz(kind, asked), kinds))
    if asked.write:
        write("fuzz", section(summaries, asked.seed))
    return min(99, sum(len(summary.findings) for summary in summaries))


def _fuzz(kind: str, asked: argparse.Namespace) -> Summary:
    count = KINDS[kind].count if asked.count is None else asked.count
    summary = fuzz(kind, count, asked.seed, first=asked.first, tell=_tell)
    print(
        f"{kind}: {summary.tried:,} {KINDS[kind].what} in {summary.seconds:.0f} s, "
        f"{len(summary.findings)} findings; {dict(summary.outcomes)}, refused by {dict(summary.refusals)}",
        flush=True,
    )
    return summary


def _tell(found: Finding) -> None:
    print(
        f"{found.kind} --seed {found.seed} --case {found.index}: {found.outcome}: {found.words}", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
