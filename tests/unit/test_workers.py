"""Jobs over threads: all results, first failure, early end; the asyncio form."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from embedge._workers import in_thread, run_jobs, start


def alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("embedge")]


@pytest.mark.parametrize("num_workers", [1, 2, 8])
def test_every_job_once(num_workers) -> None:
    assert sorted(run_jobs(range(50), lambda _, job: job * job, range(num_workers))) == [
        i * i for i in range(50)
    ]
    assert list(run_jobs([], max, range(num_workers))) == []
    assert alive() == []


def test_one_worker_runs_in_the_callers_thread() -> None:
    def ident(lane: int, job: int) -> int:
        return threading.get_ident()

    here = threading.get_ident()
    assert set(run_jobs(range(3), ident, range(1))) == {here}
    assert set(run_jobs([1], ident, range(4))) == {here}
    assert here not in set(run_jobs(range(3), ident, range(2)))


def test_a_failure_ends_the_run_and_the_workers() -> None:
    done = []

    def compute(lane: int, job: int) -> int:
        if job == 3:
            raise KeyError("job 3")
        done.append(job)
        return job

    with pytest.raises(KeyError, match="job 3"):
        list(run_jobs(range(1000), compute, range(2)))
    assert len(done) < 1000
    assert alive() == []


def test_a_consumer_that_stops_ends_the_workers() -> None:
    done = []
    results = run_jobs(range(1000), lambda _, job: done.append(job), range(2))
    next(results)
    results.close()
    assert alive() == []
    assert len(done) < 10


def test_jobs_of_a_lost_lane_are_done_by_the_others() -> None:
    lost = []

    def compute(lane: str, job: int) -> tuple[str, int]:
        if lane == "bad":
            raise OSError(f"lane {lane}")
        return lane, job

    def survives(lane: str, error: BaseException) -> bool:
        lost.append((lane, str(error)))
        return True

    done = list(run_jobs(range(40), compute, ["bad", "good", "bad"], survives))
    assert sorted(job for _, job in done) == list(range(40))
    assert {lane for lane, _ in done} == {"good"}
    assert set(lost) <= {("bad", "lane bad")}
    with pytest.raises(OSError, match="lane bad"):
        list(run_jobs(range(40), compute, ["bad", "bad"], survives))
    assert alive() == []


def test_start_gives_the_result_or_the_error() -> None:
    assert start(lambda: 7)() == 7
    wait = start(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        wait()


def test_in_thread_keeps_the_signature_and_leaves_the_event_loop_free() -> None:
    def verb(a: int, *, b: int = 2) -> tuple[int, int]:
        """Doc."""
        return a + b, threading.get_ident()

    call = in_thread(verb)
    assert (call.__doc__, call.__name__) == ("Doc.", "verb")
    assert inspect.signature(call) == inspect.signature(verb)
    total, where = asyncio.run(call(1, b=4))
    assert total == 5
    assert where != threading.get_ident()
