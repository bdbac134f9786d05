"""Jobs dealt to lanes, there from the start or made meanwhile: all results, first failure, early end."""

from __future__ import annotations

import threading

import pytest

from embedge._batches.dealing import deal


def alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("embedge")]


@pytest.mark.parametrize("num_workers", [1, 2, 8])
def test_every_job_once(num_workers) -> None:
    assert sorted(deal(range(50), lambda _, job: job * job, range(num_workers))) == [i * i for i in range(50)]
    assert list(deal([], max, range(num_workers))) == []
    assert alive() == []


def test_one_worker_runs_in_the_callers_thread() -> None:
    def ident(lane: int, job: int) -> int:
        return threading.get_ident()

    here = threading.get_ident()
    assert set(deal(range(3), ident, range(1))) == {here}
    assert set(deal([1], ident, range(4))) == {here}
    assert here not in set(deal(range(3), ident, range(2)))


def test_jobs_made_for_one_lane_run_in_the_callers_thread_and_end_with_it() -> None:
    ended = []

    def jobs():
        try:
            for _ in range(9):
                yield threading.get_ident()
        finally:
            ended.append(threading.get_ident())

    here = threading.get_ident()
    results = deal(jobs(), lambda lane, made_in: (made_in, threading.get_ident()), ["only"])
    assert next(results) == (here, here)
    assert ended == []
    results.close()
    assert ended == [here]
    assert alive() == []


def test_jobs_for_several_lanes_are_made_in_a_thread_of_their_own() -> None:
    def jobs():
        for _ in range(9):
            yield threading.current_thread().name

    assert set(deal(jobs(), lambda lane, made_in: made_in, range(2))) == {"embedge-ahead"}


def test_a_failure_ends_the_run_and_the_workers() -> None:
    done = []

    def compute(lane: int, job: int) -> int:
        if job == 3:
            raise KeyError("job 3")
        done.append(job)
        return job

    with pytest.raises(KeyError, match="job 3"):
        list(deal(range(1000), compute, range(2)))
    assert len(done) < 1000
    assert alive() == []


def test_a_consumer_that_stops_ends_the_workers() -> None:
    done = []
    results = deal(range(1000), lambda _, job: done.append(job), range(2))
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

    done = list(deal(range(40), compute, ["bad", "good", "bad"], survives))
    assert sorted(job for _, job in done) == list(range(40))
    assert {lane for lane, _ in done} == {"good"}
    assert set(lost) <= {("bad", "lane bad")}
    with pytest.raises(OSError, match="lane bad"):
        list(deal(range(40), compute, ["bad", "bad"], survives))
    assert alive() == []


def never(lane, error) -> bool:
    return False


def numbers(count: int):
    yield from range(count)


@pytest.mark.parametrize("num_lanes", [1, 3])
def test_every_job_made_meanwhile_once(num_lanes) -> None:
    results = deal(numbers(500), lambda lane, job: job * job, range(num_lanes), never)
    assert sorted(results) == [i * i for i in range(500)]
    assert list(deal(numbers(0), max, range(num_lanes), never)) == []
    assert alive() == []


def test_only_some_jobs_are_made_ahead_and_making_ends_with_the_consumer() -> None:
    asked = []

    def jobs():
        for i in range(100_000):
            asked.append(i)
            yield i

    results = deal(jobs(), lambda lane, job: job, range(2), never)
    next(results)
    results.close()
    assert alive() == []
    assert len(asked) < 200


def test_what_making_or_computing_raises_ends_the_run() -> None:
    def jobs():
        yield from range(10)
        raise KeyError("job 10")

    with pytest.raises(KeyError, match="job 10"):
        list(deal(jobs(), lambda lane, job: job, range(2), never))

    def compute(lane, job):
        if job == 3:
            raise OSError("job 3")
        return job

    with pytest.raises(OSError, match="job 3"):
        list(deal(numbers(1000), compute, range(2), never))
    assert alive() == []


def test_jobs_made_meanwhile_go_on_without_a_lost_lane() -> None:
    def compute(lane, job):
        if lane == "bad":
            raise OSError("bad")
        return job

    lanes = ["bad", "good", "bad"]
    assert sorted(deal(numbers(300), compute, lanes, lambda lane, error: True)) == list(range(300))
    with pytest.raises(OSError, match="bad"):
        list(deal(numbers(300), compute, ["bad", "bad"], lambda lane, error: True))
    assert alive() == []


def test_one_that_is_done_may_be_stopped_again(monkeypatch) -> None:
    """As the end of the process does with what is still there, in a circle or in a caller's hands."""
    kept = []
    monkeypatch.setattr("embedge._batches.dealing.stop_at_end", kept.append)
    assert sorted(deal(range(9), lambda _, job: job, range(2))) == list(range(9))
    (dealing,) = kept
    dealing.stop_soon()
