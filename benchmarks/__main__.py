"""`python -m benchmarks run | scaling | profile | prepare | table | targets`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from benchmarks import profiling, report, runner, scaling, targets
from benchmarks.calm import Care
from benchmarks.cases import CASES
from benchmarks.models import MODELS, ROOT
from benchmarks.plans import PLANS
from benchmarks.subjects import SUBJECTS

_LONGEST_S = 3600


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure, and show what was measured."
    )
    commands = parser.add_subparsers(required=True, dest="command")
    plans = ", ".join(f"{name} (about {plan.minutes} minutes)" for name, plan in PLANS.items())
    run = commands.add_parser("run", help="measure, and write results/NAME.json after every round")
    prepare = commands.add_parser("prepare", help="make the files that `run` and `scaling` would make first")
    for command in (run, prepare):
        command.add_argument("--plan", default="main", choices=PLANS, help=plans)
        command.add_argument(
            "--cases", type=_listed, help=f"MODEL/CASE,… of {', '.join(MODELS)} and {', '.join(CASES)}"
        )
        command.add_argument("--subjects", type=_listed, help=f"of {', '.join(SUBJECTS)}")
    run.add_argument(
        "--repeats",
        type=int,
        default=5,
        help="rounds, each with one fresh process per subject; default: %(default)s",
    )
    run.add_argument(
        "--attempts",
        type=int,
        default=1,
        help="runs to make at most where other programs, or other guests of the host, disturb one",
    )
    run.add_argument(
        "--patience",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="to wait at most for a calm moment before each run; default: none",
    )
    run.add_argument("--share", type=float, default=1.0, help="of each case's texts, for a quick look")
    curves = commands.add_parser("scaling", help="measure how time and memory grow")
    curves.add_argument("--curves", type=_listed, default=list(scaling.CURVES))
    curves.add_argument("--largest", type=int, help="point to measure, for a quick look")
    for command in (run, curves):
        command.add_argument(
            "--fresh", action="store_true", help="measure anew what is there of the same sources"
        )
    profile = commands.add_parser("profile", help="time each operator of a model's graphs")
    profile.add_argument("--model", default=targets.MODEL, choices=MODELS)
    table = commands.add_parser(
        "table", help="write tables and plots from results/NAME.json, and the section of docs/speed.md"
    )
    table.add_argument("--no-page", action="store_true")
    shown = commands.add_parser("targets", help="print measured ratios beside their targets")
    for command in (run, prepare, curves):
        command.add_argument("--threads", type=int, default=2)
    for command in (run, curves, profile, table, shown):
        command.add_argument("--name", default="cpu", help="of the results file")
    args = parser.parse_args()
    parser = commands.choices[args.command]
    _check_numbers(parser, args)
    if args.command in ("run", "prepare"):
        plan = PLANS[args.plan]
        cases, subjects = args.cases or plan.cases, args.subjects or plan.subjects
        known = [f"{model}/{case}" for model in MODELS for case in CASES]
        _check(parser, cases, known, f"MODEL/CASE, of {', '.join(MODELS)} and {', '.join(CASES)}")
        _check(parser, subjects, SUBJECTS)
        _check_environments(parser, {SUBJECTS[name].environment for name in subjects} | {"torch"})
    if args.command == "profile":
        _check_environments(parser, ["torch"])
    if args.command == "prepare":
        runner.prepare(cases, subjects, args.threads)
        return
    file = report.RESULTS / f"{args.name}.json"
    if args.command in ("table", "targets") and not file.is_file():
        parser.error(
            f"--name {args.name}: there are no results {file}; expected those that `run` has written"
        )
    if args.command == "run":
        runner.run(
            cases=cases,
            subjects=subjects,
            repeats=args.repeats,
            threads=args.threads,
            care=Care(attempts=args.attempts, patience_s=args.patience),
            share=args.share,
            resume=not args.fresh,
            file=file,
        )
    elif args.command == "scaling":
        _check(parser, args.curves, scaling.CURVES)
        _check_environments(parser, scaling.ENVIRONMENTS)
        scaling.run(args.curves, args.threads, not args.fresh, file, args.largest)
    elif args.command == "profile":
        profiling.run(args.model, file)
    elif args.command == "table":
        report.write(file, page=not args.no_page)
    else:
        results = runner.open_results(file)
        print(targets.render(results, report.operators_beside(file, results)))


def _listed(text: str) -> list[str]:
    return text.split(",")


def _check(parser: argparse.ArgumentParser, given, known, expected: str | None = None) -> None:
    if unknown := [name for name in given if name not in known]:
        parser.error(f"{', '.join(unknown)}: expected {expected or 'some of ' + ', '.join(known)}")


def _check_numbers(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for name in ("threads", "repeats", "attempts", "largest"):
        given = getattr(args, name, None)
        if given is not None and given < 1:
            parser.error(f"--{name} {given}: expected at least 1")
    if not 0 <= getattr(args, "patience", 0.0) < _LONGEST_S:
        parser.error(f"--patience {args.patience:g}: expected 0 to {_LONGEST_S:,} seconds")
    if not 0 < getattr(args, "share", 1.0) <= 1:
        parser.error(f"--share {args.share:g}: expected more than 0, at most 1, the whole")


def _check_environments(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    lacking = [f".venvs/{name}" for name in sorted(names) if not (ROOT / ".venvs" / name).is_dir()]
    if lacking:
        made = " ".join(f"{folder}/.installed" for folder in lacking)
        parser.error(f"{', '.join(lacking)}: no such environment here; `make {made}` makes what is missing")


if __name__ == "__main__":
    main()
