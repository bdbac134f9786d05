"""Measuring a loaded model: splits, latency, and the tokenising and the graph's run apart from all else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge import PoolingParams
from embedge._sessions.tuning import Tuning, default_tuning
from embedge.measure import (
    SplitSpeed,
    count_tokens,
    fastest,
    graph_runs,
    measure_latency,
    measure_splits,
    sample_texts,
)

TEXTS = [f"the river is cold {'and the city ' * (i % 7)}" for i in range(120)]


def test_the_rule_stands_unless_another_split_is_clearly_faster() -> None:
    def speed(workers: int, texts_per_s: float) -> SplitSpeed:
        return SplitSpeed(tuning=Tuning(workers=workers), texts_per_s=texts_per_s, tokens_per_s=1.0)

    rule = default_tuning(4)
    assert fastest([speed(4, 100), speed(2, 102)], rule).tuning == rule
    assert fastest([speed(4, 100), speed(2, 104)], rule).tuning.workers == 2
    assert fastest([speed(4, 100), speed(2, 50)], rule).tuning == rule


def test_latency_counts_calls_and_tokens() -> None:
    calls = []
    latency = measure_latency(lambda: calls.append(0) or 7, seconds=0.0)
    assert latency.num_tokens == 7
    assert len(calls) == 11
    assert 0 <= latency.p50_ms <= latency.p95_ms


def test_sample_texts_vary_in_length() -> None:
    texts = sample_texts(500)
    assert len(texts) == 500
    lengths = {len(text.split()) for text in texts}
    assert min(lengths) >= 5
    assert max(lengths) > 60


def test_splits_are_measured_with_the_batches_asked_for(load) -> None:
    speeds = list(measure_splits(load(threads=2), TEXTS, (64, 128)))
    tried = [(s.tuning.workers, s.tuning.threads_per_worker, s.tuning.batch_tokens) for s in speeds]
    assert tried == [(2, 1, 64), (2, 1, 128), (1, 2, 64), (1, 2, 128)]
    assert all(speed.texts_per_s > 0 for speed in speeds)


@pytest.mark.parametrize(
    "texts", [TEXTS, TEXTS[:1], ["river " * 40], []], ids=["many", "one", "long", "none"]
)
def test_tokens_are_counted_as_a_call_counts_them(load, texts) -> None:
    model = load()
    counts = count_tokens(model, texts)
    assert counts.dtype == np.int64
    outputs = model.embed(texts, truncate_prompt_tokens=-1)
    assert counts.tolist() == [len(output.prompt_token_ids) for output in outputs]


@pytest.mark.parametrize("kind", ["embed", "late_interaction"])
def test_the_graph_runs_on_each_text_alone(load, kind) -> None:
    model = load(kind)
    rows = [run() for run in graph_runs(model, TEXTS[:3])]
    if kind == "embed":
        raw = PoolingParams(normalize=False)
        assert_allclose(np.concatenate(rows), model.embed(TEXTS[:3], pooling_params=raw).numpy(), atol=1e-6)
    else:
        assert [row.shape[:2] for row in rows] == [(1, n) for n in count_tokens(model, TEXTS[:3])]
