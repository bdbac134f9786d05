"""Runs that nothing disturbed: wait for a calm moment, and make again what was disturbed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.disturbed import slowest_loop_ms

OTHERS = 0.15
"""Processors in use by others, on average, above which a run counts as disturbed."""
SLOWED = 1.2
"""So many times as long as at its fastest on this machine a loop may take beside an undisturbed run."""


@dataclass(frozen=True)
class Care:
    """What to do for a run that nothing disturbs.

    Attributes:
        attempts: to make at most.
        patience_s: seconds to wait at most, before each of them, for a moment in which nothing else uses the machine.
    """

    attempts: int = 1
    patience_s: float = 0.0


def disturbance(figures: dict, fastest_ms: float) -> float:
    """How far a run was disturbed; up to 1 it was not.

    Args:
        figures: of `Others`, among the run's.
        fastest_ms: the fastest loop that this machine showed.
    """
    others = figures["others_cores"]
    slowed = (figures["loop_ms"] / fastest_ms - 1) / (SLOWED - 1)
    return max(slowed, 0.0 if math.isnan(others) else others / OTHERS)


def undisturbed(measure: Callable[[], dict], care: Care, results: dict) -> dict:
    """The first measurement that nothing disturbed, or the least disturbed of several.

    Args:
        measure: makes one, with its "figures".
        care: how much trouble to take.
        results: keep the fastest loop that this machine showed, under "loop_ms".
    """
    made = []
    for _ in range(care.attempts):
        _wait_for_calm(care.patience_s, results)
        made.append(measure())
        figures = made[-1]["figures"]
        results["loop_ms"] = min(figures["loop_ms"], results.get("loop_ms", math.inf))
        if disturbance(figures, results["loop_ms"]) <= 1:
            break
    return min(made, key=lambda found: disturbance(found["figures"], results["loop_ms"]))


def _wait_for_calm(patience_s: float, results: dict) -> None:
    began = time.perf_counter()
    while time.perf_counter() - began < patience_s:
        loop_ms = slowest_loop_ms()
        results["loop_ms"] = min(loop_ms, results.get("loop_ms", math.inf))
        if loop_ms <= SLOWED * results["loop_ms"]:
            return
        time.sleep(0.5)
