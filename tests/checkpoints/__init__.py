"""Tiny checkpoints of every kind, seeded, saved like real repositories.

    folder = make("qwen3-embedding", tmp_path / "checkpoint")

CHECKPOINTS says what there is, and which library has the right answers; tests.checkpoints.reference asks it.
break_checkpoint writes one with something wrong; BREAKAGES says what.
"""

from __future__ import annotations

from pathlib import Path

from tests.checkpoints import architectures, classifiers, embedders, stated, token_models, tokenizing
from tests.checkpoints.damage import BREAKAGES, break_checkpoint
from tests.checkpoints.registry import CHECKPOINTS, Recipe

__all__ = ["BREAKAGES", "CHECKPOINTS", "Recipe", "break_checkpoint", "make"]
_TABLES = (embedders, classifiers, token_models, architectures, stated, tokenizing)


def make(name: str, folder: Path, seed: int = 0) -> Path:
    """Write the checkpoint into a folder that is empty or not there yet; the same seed writes the same bytes."""
    if name not in CHECKPOINTS:
        raise KeyError(f"no checkpoint is named {name!r}; expected one of {', '.join(sorted(CHECKPOINTS))}")
    folder.mkdir(parents=True, exist_ok=True)
    CHECKPOINTS[name].maker(folder, seed)
    return folder
