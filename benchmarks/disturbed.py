"""Whether something else used the machine while a process measured."""

from __future__ import annotations

import math
import os
import time
from typing import NamedTuple

OTHERS = 0.15
"""Processors in use by others, on average, above which a run counts as disturbed."""
SLOWED = 1.2
"""So many times as long as at its fastest on this machine a loop may take beside an undisturbed run."""
_LOOPS = 400_000


class Care(NamedTuple):
    """What to do for a run that nothing disturbs.

    Attributes:
        attempts: to make at most.
        patience_s: seconds to wait at most, before each of them, for a moment in which nothing else uses the machine.
    """

    attempts: int = 1
    patience_s: float = 0.0


class Others:
    """What else the machine does from now on, as far as a process can tell.

    A loop of Python is timed before and after. In a virtual machine a neighbour on the other thread of a core takes
    up to half of that core's speed, and no counter shows it, but the loop does.
    """

    def __init__(self, looped=True):
        self.loop_ms = slowest_loop_ms() if looped else 0.0
        self.began, self.busy, self.own = time.perf_counter(), _busy_s(), time.process_time()

    def figures(self):
        """Processors that others used on average, NaN if unknown; milliseconds of the loop where it was slowest."""
        elapsed = time.perf_counter() - self.began
        cores = max(0.0, (_busy_s() - self.busy - (time.process_time() - self.own)) / elapsed)
        return {"others_cores": cores, "loop_ms": max(self.loop_ms, slowest_loop_ms())}


def slowest_loop_ms():
    """Milliseconds that a loop of Python takes on the slowest of this process's processors; the best of three."""
    time.sleep(0.3)  # threads may spin for a moment after the last run
    if not hasattr(os, "sched_setaffinity"):
        return _loop_ms()
    allowed = os.sched_getaffinity(0)
    try:
        slowest = 0.0
        for processor in allowed:
            os.sched_setaffinity(0, {processor})
            slowest = max(slowest, _loop_ms())
        return slowest
    finally:
        os.sched_setaffinity(0, allowed)


def disturbance(figures, fastest_ms):
    """How far a run was disturbed; up to 1 it was not.

    Args:
        figures: of `Others`, among the run's.
        fastest_ms: the fastest loop that this machine showed.
    """
    others = figures["others_cores"]
    slowed = (figures["loop_ms"] / fastest_ms - 1) / (SLOWED - 1)
    return max(slowed, 0.0 if math.isnan(others) else others / OTHERS)


def undisturbed(measure, care, results):
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


def _wait_for_calm(patience_s, results):
    began = time.perf_counter()
    while time.perf_counter() - began < patience_s:
        loop_ms = slowest_loop_ms()
        results["loop_ms"] = min(loop_ms, results.get("loop_ms", math.inf))
        if loop_ms <= SLOWED * results["loop_ms"]:
            return
        time.sleep(0.5)


def _loop_ms():
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(_LOOPS):
            pass
        taken.append(time.perf_counter() - began)
    return 1e3 * min(taken)


def _busy_s():
    try:
        with open("/proc/stat") as file:  # noqa: PTH123 - pathlib is an import that not every subject makes
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    except OSError:
        return float("nan")
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
