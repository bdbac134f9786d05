"""Runs beside which something else used the machine are made again, and are known by a loop or by others' time."""

from __future__ import annotations

import math
import os

import pytest

from benchmarks import calm, disturbed


def of(*, others: float = 0.0, loop_ms: float = 1.0, name: str = "") -> dict:
    return {"name": name, "figures": {"others_cores": others, "loop_ms": loop_ms}}


class Loops:
    """What the loop takes, call by call; the last one again and again."""

    def __init__(self, *milliseconds: float) -> None:
        self.left = list(milliseconds)

    def __call__(self) -> float:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


@pytest.fixture
def loops(monkeypatch) -> Loops:
    told = Loops(1.0)
    monkeypatch.setattr(calm, "slowest_loop_ms", told)
    monkeypatch.setattr(calm.time, "sleep", lambda _: None)
    return told


@pytest.mark.parametrize(
    ("made", "chosen"),
    [
        ([of(name="calm"), of(name="never")], "calm"),
        ([of(others=0.5), of(name="calm")], "calm"),
        ([of(loop_ms=1.0, name="calm"), of(name="never")], "calm"),
        ([of(others=0.5, loop_ms=1.0), of(loop_ms=1.7), of(loop_ms=1.1, name="calm")], "calm"),
        ([of(others=0.9), of(others=0.3, name="least"), of(loop_ms=1.9)], "least"),
        ([of(others=math.nan, name="not told")], "not told"),
    ],
)
@pytest.mark.usefixtures("loops")
def test_the_first_calm_run_counts_or_the_least_disturbed(made, chosen) -> None:
    left = iter(made)
    assert calm.undisturbed(lambda: next(left), calm.Care(attempts=3), {})["name"] == chosen


@pytest.mark.usefixtures("loops")
def test_a_slow_loop_is_known_by_the_fastest_of_earlier_runs() -> None:
    results = {"loop_ms": 1.0}
    left = iter([of(loop_ms=1.3), of(loop_ms=0.9, name="calm")])
    assert calm.undisturbed(lambda: next(left), calm.Care(attempts=3), results)["name"] == "calm"
    assert results["loop_ms"] == 0.9


def test_a_run_waits_for_a_calm_moment(loops) -> None:
    loops.left = [1.9, 1.3, 1.1, 1.7]
    calm.undisturbed(lambda: of(loop_ms=1.0), calm.Care(patience_s=60.0), {"loop_ms": 1.0})
    assert loops.left == [1.7]


def test_a_run_is_made_where_no_moment_is_calm(loops, monkeypatch) -> None:
    seconds = iter(range(100))
    monkeypatch.setattr(calm.time, "perf_counter", lambda: float(next(seconds)))
    loops.left = [1.9]
    care = calm.Care(patience_s=5.0)
    assert calm.undisturbed(lambda: of(loop_ms=1.9, name="made"), care, {"loop_ms": 1.0})["name"] == "made"
    assert next(seconds) == 6


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="processes are not bound to a processor here"
)
def test_the_loop_is_timed_on_each_processor_and_the_slowest_counts(monkeypatch) -> None:
    allowed, seen = os.sched_getaffinity(0), []

    def loop_ms() -> float:
        seen.append(os.sched_getaffinity(0))
        return float(len(seen) % len(allowed))

    monkeypatch.setattr(disturbed, "_loop_ms", loop_ms)
    assert disturbed.slowest_loop_ms() == len(allowed) - 1
    assert sorted(map(sorted, seen)) == [[processor] for processor in sorted(allowed)]
    assert os.sched_getaffinity(0) == allowed


def test_a_longer_loop_takes_longer(monkeypatch) -> None:
    short = disturbed.Others().figures()
    monkeypatch.setattr(disturbed, "_LOOPS", 50 * disturbed._LOOPS)
    assert disturbed.Others(looped=False).figures()["loop_ms"] > 5 * short["loop_ms"] > 0
