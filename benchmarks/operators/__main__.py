"""`python -m benchmarks.operators [--groups …]`: times, then writes benchmarks/results."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.models import ROOT
from benchmarks.operators.listed import GROUPS
from benchmarks.operators.single import SEED
from benchmarks.operators.tables import render
from benchmarks.operators.timing import ceilings, run

RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operators", description="Time single ONNX operators."
    )
    parser.add_argument("--groups", default=",".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modes", default="1x2,2x1", help="copies x threads, e.g. 1x1")
    parser.add_argument("--name", default="cpu-operators")
    args = parser.parse_args()
    modes = [tuple(map(int, mode.split("x"))) for mode in args.modes.split(",")]
    operators = run(args.groups.split(","), args.rounds, modes)
    results = {
        "machine": machine(),
        "onnxruntime": onnxruntime.__version__,
        "rounds": args.rounds,
        "seed": SEED,
        "ceilings": ceilings(operators),
        "operators": operators,
    }
    file = Path(RESULTS / f"{args.name}.json")
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(render(results))


if __name__ == "__main__":
    main()
