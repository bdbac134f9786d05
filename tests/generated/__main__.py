"""`python -m tests.generated --count 300`: a table of what became of each option, and one line of JSON last."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path

from tests.generated.options import OPTIONS
from tests.generated.plan import draw
from tests.generated.trial import Outcome, attempt, quick

VERDICTS = ("equal", "refused", "differs", "missed", "failed", "unwritten")
PACKAGES = ("transformers", "sentence-transformers", "torch", "onnxruntime")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.generated", description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--everything", action="store_true", help="draw options that are switched off, too")
    parser.add_argument(
        "--reference", choices=("torch", "numpy"), default="torch", help="numpy: export without torch"
    )
    parser.add_argument("--keep", type=Path, help="keep the checkpoints and bundles that are not right here")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    outcomes = []
    with quick(), tempfile.TemporaryDirectory() as scratch:
        for seed in range(args.start, args.start + args.count):
            folder = Path(scratch, str(seed))
            outcomes.append(attempt(draw(seed, everything=args.everything), folder, args.reference))
            if not outcomes[-1].is_right:
                print(
                    f"{outcomes[-1].verdict:9} {outcomes[-1].plan}\n          {outcomes[-1].words[:300]}",
                    flush=True,
                )
                if args.keep and folder.is_dir():
                    shutil.copytree(folder, args.keep / str(seed), dirs_exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(table(outcomes))
    print(json.dumps(summary(outcomes, args)))
    return 0 if all(outcome.is_right for outcome in outcomes) else 1


def table(outcomes: list[Outcome]) -> str:
    """Verdicts by option, by kind and by network."""
    rows: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        for name in (outcome.plan.kind, outcome.plan.network, *outcome.plan.options, "all"):
            rows.setdefault(name, Counter())[outcome.verdict] += 1
    names = sorted({*rows} - {*OPTIONS, "all"}) + [name for name in OPTIONS if name in rows] + ["all"]
    lines = [f"{'':36}" + "".join(f"{verdict:>10}" for verdict in VERDICTS)]
    lines += [
        f"{name:36}" + "".join(f"{rows[name][verdict] or '·':>10}" for verdict in VERDICTS) for name in names
    ]
    refusals = Counter(outcome.words[:150] for outcome in outcomes if outcome.verdict == "refused")
    lines += ["", *(f"{count:4} x {words}" for words, count in refusals.most_common(12))]
    return "\n".join(lines)


def summary(outcomes: list[Outcome], args: argparse.Namespace) -> dict[str, object]:
    counts = Counter(outcome.verdict for outcome in outcomes)
    return {
        "count": len(outcomes),
        "start": args.start,
        "everything": args.everything,
        "reference": args.reference,
        **{verdict: counts[verdict] for verdict in VERDICTS},
        "wrong_seeds": [outcome.plan.seed for outcome in outcomes if not outcome.is_right],
        "versions": {package: metadata.version(package) for package in PACKAGES},
    }


if __name__ == "__main__":
    raise SystemExit(main())
