"""Whether something else used the machine while a process measured; with few imports, as start counts them."""

from __future__ import annotations

import os
import time

_LOOPS = 400_000


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
