"""Which calls share the processors between workers, and which run on all of them at once."""

from __future__ import annotations

import numpy as np
import pytest

from embedge import EdgeModel
from embedge._sessions import on_cpu
from embedge._sessions.on_cpu import CpuSessions
from embedge._sessions.tuning import Tuning, default_tuning, longest_share


class Opened:
    """Stands in for a session of so many threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.placement: dict[str, int] = {}


def opened(
    threads: int = 2, profile="latency", tuning: Tuning | None = None, copied_bytes: int = 0
) -> CpuSessions:
    return CpuSessions(
        Opened,
        threads=threads,
        profile=profile,
        tuning=tuning or default_tuning(threads),
        copied_bytes=copied_bytes,
    )


def threads_of(sessions: CpuSessions, *batch_tokens: int) -> list[int]:
    return [lane.threads for lane in sessions.lanes(batch_tokens)]


@pytest.mark.parametrize(
    ("batch_tokens", "workers", "expected"),
    [
        ([512], 1, 1),
        ([512, 512], 2, 1),
        ([512, 512, 512], 2, 4 / 3),
        ([512, 512, 100], 2, 612 * 2 / 1124),
        ([512], 4, 4),
        ([400, 300, 200, 100], 2, 1),
        ([], 2, 0),
    ],
)
def test_the_last_worker_ends_after_the_others(batch_tokens, workers, expected) -> None:
    assert longest_share(batch_tokens, workers) == pytest.approx(expected)


def test_a_call_of_several_batches_is_shared_once_there_were_enough_of_them() -> None:
    sessions = opened()
    assert [threads_of(sessions, 480, 480, 480, 480) for _ in range(3)] == [[2], [1, 1], [1, 1]]
    assert threads_of(sessions, 480) == [2], "one text or batch takes all threads"


def test_a_graph_of_many_weights_is_opened_again_after_more_batches() -> None:
    assert threads_of(opened(copied_bytes=80 << 20), *[512] * 8) == [1, 1]
    sessions = opened(copied_bytes=140 << 20)
    assert threads_of(sessions, *[512] * 12) == [2], "opening it would take longer than workers gain"
    assert threads_of(sessions, *[512] * 2) == [1, 1]
    assert threads_of(opened(copied_bytes=140 << 20), *[512] * 14) == [1, 1]
    assert [lane.threads for lane in opened(copied_bytes=140 << 20).lanes(None)] == [1, 1]


def test_a_models_weights_put_its_second_session_off(minilm_bundle, monkeypatch) -> None:
    """Of MiniLM's 91 MB in float32, 43 are no table of words."""
    monkeypatch.setattr(on_cpu, "_BYTES_PER_BATCH", 4 << 20)
    texts = ["word " * 30] * 144  # 32 tokens, so 16 of them make a batch
    with EdgeModel(minilm_bundle, variant="fp32", device="cpu", threads=2) as model:
        sessions = model._open().engine.sessions
        model.embed(texts)
        assert not sessions._large
        model.embed(texts[:32])
        assert sessions._large


def test_single_batches_never_open_a_second_session() -> None:
    sessions = opened()
    assert all(threads_of(sessions, 512) == [2] for _ in range(100))
    assert threads_of(sessions, 512, 512) == [2]


def test_a_large_call_is_shared_at_once() -> None:
    assert threads_of(opened(), *[512] * 8) == [1, 1]
    assert [lane.threads for lane in opened().lanes(None)] == [1, 1]


def test_what_workers_would_share_unevenly_runs_on_all_threads() -> None:
    sessions = opened()
    sessions.lanes(None)
    assert threads_of(sessions, 2048, 300) == [2]
    assert threads_of(sessions, 512, 512, 512) == [2]
    assert threads_of(sessions, 512, 512) == [1, 1]
    eight = opened(8)
    eight.lanes(None)
    assert threads_of(eight, 512, 512) == [8]
    assert threads_of(eight, *[128] * 8) == [1] * 8


def test_profiles_with_workers_alone_and_a_tuning_of_one_worker_have_one_session() -> None:
    assert threads_of(opened(profile="throughput"), 512) == [1, 1]
    assert threads_of(opened(tuning=Tuning(workers=1, threads_per_worker=2)), 512, 512) == [2]


def test_a_few_batches_are_cut_for_workers_and_answered_as_before(tiny) -> None:
    """By their tokens alone the last of the batches would be a small one."""
    texts = [
        f"the river is cold and the city is {word} {'far away ' * 9}" for word in ("old", "new", "far") * 20
    ]
    seen: list[int] = []
    with EdgeModel(tiny(), device="cpu", threads=2) as model:
        engine = model._open().engine
        lanes = engine.sessions.lanes

        def watched(batch_tokens):
            seen[:] = batch_tokens
            return lanes(batch_tokens)

        engine.sessions.lanes = watched
        first = model.embed(texts).numpy()
        alone = np.concatenate([model.embed([text]).numpy() for text in texts])
        for _ in range(3):
            again = model.embed(texts).numpy()
        assert engine.sessions._large, "the calls were shared"
    assert longest_share(seen, 2) <= 1.2
    np.testing.assert_allclose(again, first, rtol=0, atol=1e-6)
    np.testing.assert_allclose(again, alone, rtol=0, atol=1e-6)
