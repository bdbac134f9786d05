"""Clocks of the GPU's benchmark."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds_per_run(run: Callable[[], object], wait: Callable[[], object], budget_s: float = 0.6) -> float:
    """Median over five rounds of the time of one run, rounds long enough for the host's start to vanish.

    Args:
        run: starts one run on the device.
        wait: returns when the device has done all that was started.
        budget_s: time to spend, warm-up apart.
    """
    for _ in range(3):
        run()
    wait()
    began = time.perf_counter()
    run()
    wait()
    count = max(2, int(budget_s / 5 / max(1e-6, time.perf_counter() - began)))
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(count):
            run()
        wait()
        rounds.append((time.perf_counter() - began) / count)
    return statistics.median(rounds)


def percentiles_ms(run: Callable[[int], object], count: int, warm_up: int = 30) -> dict[str, float]:
    """Times of single calls in milliseconds."""
    for i in range(warm_up):
        run(i)
    times = []
    for i in range(count):
        began = time.perf_counter()
        run(i)
        times.append(1e3 * (time.perf_counter() - began))
    times.sort()
    return {"p50": times[count // 2], "p90": times[count * 9 // 10], "min": times[0]}
