"""A model that embeds queries and documents apart, exported to one bundle: tower by tower, then joined."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

from embedge import store
from embedge.errors import VerificationError
from embedge.manifest import REPORT_FILE, Manifest
from embedge.verify import verify
from embedge_export.progress import Listener, Stages, Step
from embedge_export.report.card import CARD_FILE, write_card
from embedge_export.source.prompts import default_name
from embedge_export.source.repository import open_repository
from embedge_export.source.towers import Towers
from embedge_export.spec import ExportSpec
from embedge_export.write.manifest import with_reports, write_manifest
from embedge_export.write.staging import choose_target, staging
from embedge_export.write.towers import check_towers, join_towers

Export: TypeAlias = Callable[[ExportSpec, ExportSpec, Listener | None], Path]


def export_towers(spec: ExportSpec, towers: Towers, export: Export, progress: Listener | None) -> Path:
    """Export each tower like a model of its own, and put all of them into one bundle.

    Args:
        spec: of the whole.
        towers: which there are.
        export: makes one of them: what to export and where to, what the reports say was asked for, who is told.
        progress: told how far it is.

    Returns:
        The bundle's folder.

    Raises:
        ExportError: a tower cannot be exported, or one bundle cannot hold all of them.
        VerificationError: a tower's numbers are not the checkpoint's.
    """
    repository = open_repository(spec)
    target = choose_target(spec, repository.name)
    stages = Stages(progress)
    with staging(target, 0, force=spec.force) as folder:
        parts = folder / "parts"
        made = {
            name: export(
                msgspec.structs.replace(spec, tower=name, output=parts / name),
                spec,
                None if progress is None else _of_tower(progress, name),
            )
            for name in towers.names
        }
        manifest = stages.run("towers", _join, made, folder, spec, default_name(repository.folder, spec))
        store.commit(folder, target)
    stages.finish(f"{target.name}, fingerprint {manifest.fingerprint[:12]}")
    return target


def _of_tower(progress: Listener, name: str) -> Listener:
    """Say of each stage which tower it is of, and nothing of the end of one."""

    def tell(step: Step) -> None:
        if step.stage != "done":
            progress(msgspec.structs.replace(step, detail=f"{name}: {step.detail}"))

    return tell


def _join(
    made: Mapping[str, Path], folder: Path, spec: ExportSpec, default_prompt_name: str | None
) -> tuple[Manifest, str]:
    """Put the towers into one bundle, and ask it once more what each was asked."""
    check_towers(made)
    alone = sum(path.stat().st_size for tower in made.values() for path in tower.rglob("*") if path.is_file())
    manifest = join_towers(folder, made, default_prompt_name, once=(CARD_FILE,))
    shutil.rmtree(folder / "parts")  # what is left of their locks
    write_card(folder, manifest, spec)
    manifest = with_reports(manifest, (REPORT_FILE, CARD_FILE), folder)
    write_manifest(manifest, folder)
    reports = verify(folder, device="cpu", variants=tuple(_on_cpu(manifest)))
    for report in reports:
        if not report.passed:
            raise VerificationError(
                f"variant {report.variant} of the {report.tower} tower differs from what it was before the towers were "
                f"put into one bundle, by {report.max_abs_diff:.2e}; expected at most {report.tolerance:.1e}. Nothing "
                "was written. Please report this with the model's name."
            )
    size = sum(record.size_bytes for record in manifest.files.values())
    return manifest, (
        f"{', '.join(made)}: {len(manifest.files) + 1} files, {size / 1e6:.1f} MB, {alone / 1e6:.1f} MB apart; "
        f"{sum(report.num_probes for report in reports)} probes as before"
    )


def _on_cpu(manifest: Manifest) -> list[str]:
    return [name for name, variant in manifest.variants.items() if variant.target == "cpu"]
