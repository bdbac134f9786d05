"""`python -m benchmarks run | table`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import runner, tables
from benchmarks.cases import CASES
from benchmarks.models import MODELS
from benchmarks.subjects import SUBJECTS

DEFAULT_CASES = "start,query,short,passages,long"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure, and show what was measured."
    )
    commands = parser.add_subparsers(required=True, dest="command")
    run = commands.add_parser("run", help="measure, and write results/NAME.json")
    run.add_argument("--model", default="minilm", choices=MODELS)
    run.add_argument("--cases", default=DEFAULT_CASES, help=f"of {', '.join(CASES)}")
    run.add_argument("--subjects", default=",".join(SUBJECTS), help=f"of {', '.join(SUBJECTS)}")
    run.add_argument("--repeats", type=int, default=5, help="fresh processes per case and subject")
    run.add_argument("--threads", type=int, default=2)
    run.add_argument(
        "--attempts", type=int, default=1, help="runs to make at most where other processes disturb one"
    )
    run.add_argument("--bundle", type=Path, help="measure this bundle instead of a fresh export")
    table = commands.add_parser(
        "table", help="write tables and plots from results/NAME.json, and README's section"
    )
    table.add_argument("--no-readme", action="store_true")
    for command in (run, table):
        command.add_argument("--name", default="cpu", help="of the results file")
    args = parser.parse_args()
    file = tables.RESULTS / f"{args.name}.json"
    if args.command == "table":
        tables.write(file, readme=not args.no_readme)
        return
    subjects, cases = args.subjects.split(","), args.cases.split(",")
    for given, known in ((subjects, SUBJECTS), (cases, CASES)):
        if unknown := sorted(set(given) - set(known)):
            parser.error(f"{', '.join(unknown)}: expected some of {', '.join(known)}")
    runner.run(
        model=args.model,
        cases=cases,
        subjects=subjects,
        repeats=args.repeats,
        threads=args.threads,
        attempts=args.attempts,
        bundle=args.bundle,
        file=file,
    )


if __name__ == "__main__":
    main()
