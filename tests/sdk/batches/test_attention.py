"""Attention's memory is bounded: batches cut, fewer at once, or a sentence before anything is allocated."""

from __future__ import annotations

from typing import Any

import pytest

from embedge import PromptError
from embedge._batches import attention as _attention
from embedge._batches.attention import AttentionMemory
from embedge._batches.planning import plan_batches
from embedge.manifest import Fidelity, Variant

MB = 2**20


def heads(count: int) -> dict[str, Any]:
    """A bundle whose graph is said to hold the scores of so many heads."""
    fidelity = Fidelity(num_texts=1, max_abs_diff=0.0, max_batch_diff=0.0)
    variant = Variant(file="onnx/model.onnx", dtype="float32", fidelity=fidelity, score_heads=count)
    return {"changes": {"variants": {"fp32": variant}}}


def test_batches_are_cut_by_the_square_of_their_length() -> None:
    assert [len(b) for b in plan_batches([100] * 8, 800)] == [8]
    assert [len(b) for b in plan_batches([100] * 8, 800, max_square=30_000)] == [3, 3, 2]
    assert [len(b) for b in plan_batches([300, 100], 800, max_square=30_000)] == [1, 1]


@pytest.mark.parametrize(("free", "lanes"), [(10**12, 8), (1300 * MB, 2), (700 * MB, 1), (None, 1)])
def test_no_more_batches_at_once_than_fit(monkeypatch, free, lanes) -> None:
    monkeypatch.setattr(_attention, "available_memory_bytes", lambda: free)
    attention = AttentionMemory(num_heads=12)
    assert attention.needed_bytes(1, 2048) == 3 * 192 * MB
    assert attention.num_lanes(8, 1, 2048, 0) == lanes
    assert attention.num_lanes(8, 1, 128, 0) == 8


def test_a_text_whose_attention_does_not_fit_is_refused_before_anything_runs(load, monkeypatch) -> None:
    model = load(bundle=heads(10**7))
    monkeypatch.setattr(_attention, "available_memory_bytes", lambda: 300 * MB)
    many = ["river"] * 30 + ["the river is cold and the river is cold"]
    ran = []
    monkeypatch.setattr(model._open().engine.answerer._forward, "feeds", ran.append)
    for prompts, index in ((many, 30), (many[-1], 0)):
        with pytest.raises(
            PromptError, match=rf"prompt {index} has 11 tokens; the attention of .* GB, and 0.3 GB"
        ) as caught:
            model.embed(prompts)
        assert caught.value.index == index
    assert ran == []


def test_answers_do_not_depend_on_the_bound(load) -> None:
    texts = ["river", "the river is cold", "cold"] * 20
    free = load().embed(texts).numpy()
    bound = load(bundle=heads(100_000), threads=2).embed(texts).numpy()
    assert abs(free - bound).max() < 1e-6
