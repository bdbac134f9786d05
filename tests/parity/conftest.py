"""Tiny checkpoints of tests.checkpoints and their bundles, made once per run; and what they are asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.checkpoints import make

from corpus import texts
from embedge import EdgeModel
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

# mixed lengths, scripts and oddities; cut so that float32 sums over thousands of tokens are not what is compared
TEXTS = [text[:1500] for text in texts(80, seed=3) if text.strip()][:56]
PAIRS = [(f"how do foxes jump {TEXTS[i * 7 % 20][:30]}", text) for i, text in enumerate(TEXTS)]

Exported = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Folders of a checkpoint and of its bundle; keywords go to ExportSpec."""
    made: dict[str, tuple[Path, Path]] = {}

    def get(name: str, **spec) -> tuple[Path, Path]:
        key = repr((name, sorted(spec.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp(name)
            checkpoint = make(name, folder / "checkpoint")
            made[key] = (
                checkpoint,
                export(ExportSpec(model=str(checkpoint), output=folder / "bundle", **spec)),
            )
        return made[key]

    return get


def load(bundle: Path, **arguments) -> EdgeModel:
    """A model on the CPU that cuts what is too long, as the reference libraries do."""
    return EdgeModel(bundle, **{"device": "cpu", "truncate_prompt_tokens": -1, **arguments})
