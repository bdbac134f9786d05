"""Tiny checkpoints of tests.checkpoints and their bundles, made once per run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.checkpoints import make

from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

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
