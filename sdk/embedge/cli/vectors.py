"""Commands on saved vectors: `embedge quantize`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from embedge._corpus.precision import PRECISIONS
from embedge.corpus import Vectors


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `quantize`."""
    quantize = commands.add_parser(
        "quantize",
        help="store saved vectors in fewer bytes",
        description='Store saved vectors once more in fewer bytes. "embedge search SMALL … --rescore VECTORS" looks '
        "through the small ones, and lets the others decide between the nearest.",
    )
    quantize.add_argument(
        "vectors", type=Path, metavar="VECTORS", help='what "embedge encode FILES -o VECTORS" wrote'
    )
    quantize.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="as of encode")
    quantize.add_argument("--precision", choices=PRECISIONS, required=True, help="how a component is stored")
    quantize.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    quantize.set_defaults(run=_run_quantize)


def _run_quantize(args: argparse.Namespace) -> int:
    made = Vectors.open(args.vectors).quantize(args.output, args.precision, overwrite=args.overwrite)
    print(f"wrote {len(made):,} rows in {args.precision} to {args.output}", file=sys.stderr)
    return 0
