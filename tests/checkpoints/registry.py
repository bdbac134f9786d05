"""The table of checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Maker = Callable[[Path, int], None]


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: what it is for, and which library's answers are the right ones.

    reference names the class that loads the folder: SentenceTransformer, CrossEncoder, SparseEncoder, or one of
    transformers' Auto classes; or a function of tests.checkpoints.reference for what has no class there.
    """

    name: str
    tasks: tuple[str, ...]
    reference: str
    notes: str = ""
    maker: Maker = field(kw_only=True, repr=False, compare=False)


CHECKPOINTS: dict[str, Recipe] = {}


def recipe(name: str, *tasks: str, reference: str, notes: str = "") -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        if name in CHECKPOINTS:
            raise ValueError(f"two recipes are named {name!r}")
        CHECKPOINTS[name] = Recipe(name, tasks, reference, notes, maker=maker)
        return maker

    return register
