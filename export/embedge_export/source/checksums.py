"""Hashes of a checkpoint's files: what was exported, and whether it stayed the same meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedge.bundle import sha256_file
from embedge.errors import ExportError
from embedge_export.source.repository import weight_files

if TYPE_CHECKING:
    from embedge_export.source.checkpoint import Checkpoint

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_SETTINGS_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".metadata")


def hash_weights(folder: Path, modules: list[Path], *, optional: bool = False) -> dict[str, str]:
    """Hash the weight files of a checkpoint, by their path in it; `optional` passes over modules without any."""
    present = [
        module for module in modules if not optional or any((module / name).is_file() for name in _WEIGHTS)
    ]
    return _hash_files(folder, [path for module in present for path in weight_files(module)])


def check_unchanged(checkpoint: Checkpoint) -> None:
    """Read everything a second time, at the end of an export.

    Raises:
        ExportError: a file is not what it was when the export began.
    """
    folder = checkpoint.repository.folder
    before = {**checkpoint.settings, **checkpoint.code, **checkpoint.weights}
    now = _hash_files(folder, [folder / name for name in before if (folder / name).is_file()])
    changed = [name for name, sha256 in before.items() if now.get(name) != sha256]
    if changed:
        raise ExportError(
            f"{changed[0]} of {checkpoint.repository.name} changed during the export; expected the same files from "
            "start to end. Export again when they are complete."
        )


def hash_settings(folder: Path) -> dict[str, str]:
    """Hash the small files of a checkpoint, by their path in it."""
    return _hash_files(
        folder, sorted(path for path in folder.rglob("*") if path.suffix in _SETTINGS_SUFFIXES)
    )


def _hash_files(folder: Path, paths: list[Path]) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
