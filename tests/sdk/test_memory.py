"""max_memory_mb: what a process takes beside the loaded model, with and without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedge import EdgeModel
from embedge.errors import ParamsError, PromptError

_LIMIT_MIB = 40
_CALLS = """
import json, sys, threading
from pathlib import Path
from embedge import EdgeModel

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

folder, limit = sys.argv[1], json.loads(sys.argv[2])
model = EdgeModel(folder, device="cpu", variant="fp32", threads=2, profile="throughput", max_batch_tokens=8192,
                  max_memory_mb=limit, truncate_prompt_tokens=-1)
model.embed("one")
model.embed(["one", "two"])
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
threads = [threading.Thread(target=model.embed, args=(["word " * 600] * 40,)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([status("VmHWM") - before, status("VmRSS") - before]))
"""


def _taken_mib(folder: Path, limit: int | None) -> list[float]:
    run = subprocess.run(
        [sys.executable, "-c", _CALLS, folder, json.dumps(limit)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="read from Linux's /proc")
def test_calls_at_once_stay_below_the_limit(minilm_bundle) -> None:
    unlimited, left = _taken_mib(minilm_bundle, None)
    peak, after = _taken_mib(minilm_bundle, _LIMIT_MIB)
    assert unlimited > 3 * _LIMIT_MIB
    assert left < unlimited / 3  # runs so large give back what they took
    assert peak < _LIMIT_MIB
    assert after < 30


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
