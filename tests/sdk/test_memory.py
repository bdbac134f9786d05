"""max_memory_mb: what a process takes beside the loaded model, with and without it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.soak import memory

from embedge import EdgeModel
from embedge.cli.main import main
from embedge.errors import ParamsError, PromptError

BESIDE_MIB = 24
"""Tokens and results of two calls, and what the allocators hold between: no part of the limit. 0 to 11 were seen."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="read from Linux's /proc")
def test_calls_at_once_stay_below_the_limit(minilm_bundle) -> None:
    unlimited, left = memory.apart(memory.calls_at_once, minilm_bundle, None)
    peak, after = memory.apart(memory.calls_at_once, minilm_bundle, memory.LIMIT_MIB)
    assert unlimited > 3 * memory.LIMIT_MIB
    assert left < 0.6 * unlimited  # runs so large give back what they took
    assert peak < memory.LIMIT_MIB + BESIDE_MIB
    assert after < 30


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="read from Linux's /proc")
def test_inspect_states_what_a_load_takes(minilm_bundle, capsys) -> None:
    assert main(["inspect", str(minilm_bundle)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("fp32 takes"))
    most, then, batch = (float(found) / 1.048576 for found in re.findall(r"([\d.]+) MB", line))
    measured_most, measured_then = memory.apart(memory.loading, minilm_bundle, "fp32", "latency")
    # the tokenizer, and what the libraries load, are in what is measured
    assert most * 0.9 < measured_most < most + 50
    assert then * 0.9 < measured_then < then + 50
    assert line.endswith("for a batch of 2 × 256 tokens")
    assert 5 < batch < memory.LIMIT_MIB


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="read from Linux's /proc")
def test_sessions_share_the_table_of_words_and_a_closed_model_gives_its_memory_back(minilm_bundle) -> None:
    """MiniLM in fp32: 86 MiB of weights, 45 of them the words' vectors."""
    loaded, opened, closed = memory.apart(memory.second_session, minilm_bundle, "fp32")
    _, with_copies, _ = memory.apart(memory.second_session, minilm_bundle, "fp32", False)
    assert opened - loaded > 40, "a second session was opened, with the other weights once more"
    assert with_copies - opened > 25, "the words' vectors are there once"
    assert closed < 0.6 * loaded


def test_inspect_does_not_need_a_graph_that_is_whole(tiny, capsys) -> None:
    folder = tiny()
    (folder / "onnx" / "model.onnx").unlink()
    assert main(["inspect", str(folder)]) == 0
    assert "the tokenizer, memory that is not known: " in capsys.readouterr().out


def test_the_limit_leaves_the_numbers(minilm_bundle) -> None:
    texts = ["word " * n for n in (1, 300, 20, 5)]
    with (
        EdgeModel(minilm_bundle, device="cpu", variant="fp32", truncate_prompt_tokens=-1) as free,
        EdgeModel(
            minilm_bundle, device="cpu", variant="fp32", truncate_prompt_tokens=-1, max_memory_mb=12
        ) as held,
    ):
        np.testing.assert_allclose(held.embed(texts).numpy(), free.embed(texts).numpy(), atol=1e-6)


@pytest.mark.parametrize("texts", [["one", "word " * 600], "word " * 600])
def test_a_text_that_cannot_fit_is_refused_by_its_position(minilm_bundle, texts) -> None:
    with EdgeModel(
        minilm_bundle, device="cpu", variant="fp32", truncate_prompt_tokens=-1, max_memory_mb=8
    ) as model:
        with pytest.raises(
            PromptError, match=r"256 tokens, which take about \d+ MB; max_memory_mb=8 is enough for"
        ):
            model.embed(texts)
        assert model.embed(["one"] * 3).numpy().shape == (3, 384)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2"])
def test_a_limit_that_is_none_is_refused(tiny, limit) -> None:
    with pytest.raises(ParamsError, match="max_memory_mb"):
        EdgeModel(tiny(), max_memory_mb=limit)
