"""What computing once what texts begin with is worth: the same calls with and without, in turns.

    python -m benchmarks.prefixes BUNDLE [--rounds 5] [--threads N] [--variant int8]

A reranker is asked one query with 50 short documents, an embedder 50 short texts after an instruction of some length,
and both the same again, when the prefix is kept. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.machine import machine
from embedge import EdgeModel, PoolingParams

_COUNT = 50
_QUERY = "which of the reports tell how the pump was repaired after the flood, {}"
_INSTRUCTION = (
    "Instruct: Given a question of a technician {}, retrieve passages of the maintenance reports that answer it, and "
    "prefer those that name the part, the machine that it is of, and what was done to it\nQuery: "
)
_WORDS = (
    "the",
    "pump",
    "was",
    "taken",
    "out",
    "on",
    "monday",
    "and",
    "its",
    "seal",
    "replaced",
    "by",
    "a",
    "new",
    "one",
)
_RAW = PoolingParams(use_activation=False)


def texts() -> list[str]:
    """Short documents of five to twenty words."""
    return [" ".join((_WORDS * 2)[i % 7 :][: 5 + i % 16]) + f" {i}" for i in range(_COUNT)]


def call(model: EdgeModel) -> Callable[[str], np.ndarray[Any, Any]]:
    """What is timed: a call whose prefix is another one for every word that is given."""
    documents = texts()
    if "score" in model.manifest.tasks:
        return lambda word: model.score(_QUERY.format(word), documents, pooling_params=_RAW).numpy()
    return lambda word: model.embed(documents, prompt=_INSTRUCTION.format(word)).numpy()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each way, and the largest difference of their answers."""
    options = {"device": "cpu", "variant": arguments.variant, "threads": arguments.threads}
    with (
        EdgeModel(arguments.bundle, **options) as sharing,
        EdgeModel(arguments.bundle, **options, enable_prefix_caching=False) as whole,
    ):
        if not sharing.info.prefix_cache_bytes:
            raise SystemExit(f"{arguments.bundle} cannot: its graph takes no prefix. Expected a decoder's.")
        ways = {"first call": call(sharing), "again": call(sharing), "whole": call(whole)}
        for way in ways.values():
            way("before it is measured")
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        difference = 0.0
        for turn in range(arguments.rounds):
            answers = []
            for name, way in ways.items():
                started = time.perf_counter()
                answers.append(way(f"in part {turn}"))
                seconds[name].append(time.perf_counter() - started)
            largest = max(1.0, float(np.abs(answers[2]).max()))
            difference = max(
                difference, *(float(np.abs(a - answers[2]).max()) / largest for a in answers[:2])
            )
        median = {name: statistics.median(each) for name, each in seconds.items()}
        return {
            "bundle": sharing.manifest.name,
            "variant": sharing.info.variant,
            "threads": sharing.info.threads,
            "machine": machine(),
            "rounds": arguments.rounds,
            "seconds": median,
            "first call": median["whole"] / median["first call"],
            "again": median["whole"] / median["again"],
            "largest difference": difference,
        }


def main() -> None:
    """Measure, and print a table and JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--variant", default="auto")
    found = measure(parser.parse_args())
    for name in ("first call", "again"):
        print(f"{name:12} {found['seconds'][name]:8.3f} s, {found[name]:.2f} times as fast as whole texts")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
