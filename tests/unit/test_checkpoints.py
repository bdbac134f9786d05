"""The tiny checkpoints are what they claim to be: their own libraries load them, and their answers are not vacuous."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoints import CHECKPOINTS, make
from tests.checkpoints.reference import answers
from tests.checkpoints.vocabularies import MATH_STEP_TAG, STEP_TAG

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning")]
TEXTS = [
    "The quick brown fox jumps over the lazy dog, isn't it?",
    "Быстрая лиса: returns a list of the names.",
]
STEPS = {"process-reward": STEP_TAG, "prm-lm": MATH_STEP_TAG}


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def inputs(name: str) -> list:
    if name in STEPS:
        return [f"{first} {STEPS[name]} {second} {STEPS[name]}" for first, second in (TEXTS, TEXTS[::-1])]
    if "score" in CHECKPOINTS[name].tasks or CHECKPOINTS[name].reference == "CrossEncoder":
        return [("how do foxes jump", TEXTS[0]), ("how do foxes jump", TEXTS[1])]
    return TEXTS


def weights(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_reference_library_loads_it_and_tells_texts_apart(name, tmp_path):
    folder = make(name, tmp_path / name)
    first, second = answers(name, folder, inputs(name))
    assert first.size
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()
    size = min(len(first.ravel()), len(second.ravel()))
    left, right = (answer.ravel()[:size].astype(np.float64) for answer in (first, second))
    assert np.abs(left - right).max() > 0.005
    if CHECKPOINTS[name].tasks[0] == "embed":
        assert left @ right / np.linalg.norm(left) / np.linalg.norm(right) < 0.97
    if CHECKPOINTS[name].reference == "SparseEncoder":
        assert 10 < np.count_nonzero(first) < 0.3 * first.size
    assert "license: apache-2.0" in (folder / "README.md").read_text("utf-8")
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pkl", ".pt")]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_same_seed_writes_the_same_bytes(name, tmp_path):
    one, two = make(name, tmp_path / "a" / name), make(name, tmp_path / "b" / name)
    assert weights(one) == weights(two)
    assert any(path.endswith(".safetensors") for path in weights(one))
