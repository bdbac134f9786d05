"""The tiny checkpoints are what they claim to be: their own libraries load them, and their answers are not vacuous."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoints import BREAKAGES, CHECKPOINTS, break_checkpoint, make
from tests.checkpoints.reference import answers
from tests.checkpoints.vocabularies import MATH_STEP_TAG, STEP_TAG

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning")]
ROOT = Path(__file__).parents[2]
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


def hashes(folder: Path) -> dict[str, str]:
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
    if CHECKPOINTS[name].tasks[0] == "embed" and first.ndim == 1:
        assert left @ right / np.linalg.norm(left) / np.linalg.norm(right) < 0.97
    if CHECKPOINTS[name].reference == "SparseEncoder":
        assert 10 < np.count_nonzero(first) < 0.3 * first.size
    assert "license: apache-2.0" in (folder / "README.md").read_text("utf-8")
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pkl", ".pt")]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_same_seed_writes_the_same_bytes(name, tmp_path):
    one, two = make(name, tmp_path / "a"), make(name, tmp_path / "b")
    assert hashes(one) == hashes(two)
    assert any(path.endswith(".safetensors") for path in hashes(one))


def test_another_process_writes_the_same_bytes_and_another_seed_does_not(tmp_path):
    """Training a vocabulary depends on the order of a hash map unless care is taken."""
    names = ["bert", "xlm-roberta", "qwen3", "mistral"]
    code = (
        "import sys, pathlib\nfrom tests.checkpoints import make\n"
        "for name in sys.argv[2:]: make(name, pathlib.Path(sys.argv[1]) / name)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "other", *names], check=True, env=environment)
    for name in names:
        assert hashes(make(name, tmp_path / "here" / name)) == hashes(tmp_path / "other" / name)
    assert hashes(make("bert", tmp_path / "seed", seed=1)) != hashes(tmp_path / "here" / "bert")


@pytest.mark.parametrize("kind", BREAKAGES)
def test_a_broken_checkpoint_differs_from_its_base_in_few_files(kind, tmp_path):
    base = make(BREAKAGES[kind][0], tmp_path / "base")
    broken = break_checkpoint(kind, tmp_path / "broken")
    changed = {name for name, _ in hashes(base).items() ^ hashes(broken).items()}
    assert bool(changed) == (kind not in ("remote-code", "symlink-outside"))
    assert len(changed) <= 5
    assert (broken / "tokenizer.json").is_symlink() == (kind == "symlink-outside")


def test_an_answer_does_not_depend_on_its_batch(tmp_path):
    """Padding on either side, poolings that look at positions, and windows included."""
    from sentence_transformers import SentenceTransformer

    for name in ("qwen3-embedding", "pool-weightedmean", "gemma3-text-st", "modernbert-st"):
        model = SentenceTransformer(str(make(name, tmp_path / name)), device="cpu")
        alone, batch = (model.encode(texts, show_progress_bar=False)[0] for texts in (TEXTS[1:], TEXTS[::-1]))
        np.testing.assert_allclose(alone, batch, atol=2e-5)
