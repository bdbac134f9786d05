"""Tiny checkpoints of every kind, seeded, saved like real repositories.

    folder = make("qwen3-embedding", tmp_path / "checkpoint")

CHECKPOINTS says what there is, and which library has the right answers; tests.checkpoints.reference asks it.
"""

from __future__ import annotations

from pathlib import Path

from tests.checkpoints import classifiers, embedders, token_models
from tests.checkpoints.registry import CHECKPOINTS, Recipe

__all__ = ["CHECKPOINTS", "Recipe", "make"]
_TABLES = (embedders, classifiers, token_models)


def make(name: str, folder: Path, seed: int = 0) -> Path:
    """Write the checkpoint into a folder that is empty or not there yet; the same seed writes the same bytes."""
    if name not in CHECKPOINTS:
        raise KeyError(f"no checkpoint is named {name!r}; expected one of {', '.join(sorted(CHECKPOINTS))}")
    folder.mkdir(parents=True, exist_ok=True)
    CHECKPOINTS[name].maker(folder, seed)
    return folder
