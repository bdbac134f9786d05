"""The bundle, graph and device of a command, and the model that they are."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from embedge.model import EdgeModel
from embedge.types import Trust


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a bundle, a graph and a device."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or its name in the store")
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help='"cpu", "cuda", "cuda:N", "openvino" or "auto" (default)',
    )
    parser.add_argument(
        "--variant", default="auto", metavar="NAME", help='graph to run, as "embedge inspect" lists them'
    )
    parser.add_argument(
        "--trust",
        choices=get_args(Trust),
        default="exported",
        metavar="WHAT",
        help='"any" runs a graph that no export wrote, apart (default: exported)',
    )
    parser.add_argument(
        "--max-memory",
        type=int,
        metavar="MB",
        help="what computing may take beside the loaded model; batches are cut to fit (CPU)",
    )


def load(args: argparse.Namespace, bundle: str | None = None, **options: Any) -> EdgeModel:
    """The model that `add_model_arguments`'s arguments choose, or another bundle in the same way."""
    chosen = args.bundle if bundle is None else bundle
    return EdgeModel(
        chosen,
        device=args.device,
        variant=args.variant,
        trust=args.trust,
        max_memory_mb=args.max_memory,
        **options,
    )
