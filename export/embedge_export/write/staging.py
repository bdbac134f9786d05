"""A folder beside the target that becomes the bundle when it is complete, or is removed."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from embedge import store
from embedge.errors import ExportError
from embedge.manifest import MANIFEST_FILE
from embedge_export.interrupts import ended_by_signals
from embedge_export.spec import ExportSpec, expanded
from embedge_export.write.locking import locked
from embedge_export.write.swapping import put_back, put_in_place

_MB = 1_000_000


def choose_target(spec: ExportSpec, name: str) -> Path:
    """Where the bundle of a model called `name` goes: the caller's folder, or one of the bundle store.

    Raises:
        ExportError: as `check_target`.
    """
    target = expanded(spec.output or store.bundle_path(name)).absolute()
    check_target(target, force=spec.force)
    return target


def check_target(target: Path, *, force: bool) -> None:
    """Refuse to write over anything but a bundle that the caller wants replaced.

    Raises:
        ExportError: the target is a file, another folder, or a bundle without `force`.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ExportError(
            f"{target} is a file or link; expected a folder to write the bundle to. Choose another -o."
        )
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / MANIFEST_FILE).is_file():
        raise ExportError(
            f"{target} is not empty and no bundle; expected a new folder, or a bundle to replace. Choose another -o."
        )
    if not force:
        raise ExportError(
            f"{target} already holds a bundle; expected a new folder. Pass --force to replace it."
        )


@contextlib.contextmanager
def staging(target: Path, needed_bytes: int, *, force: bool) -> Iterator[Path]:
    """A new folder beside the target, removed whatever happens unless `commit` gave it the target's name.

    What earlier exports to the same target left behind, because they were killed, is removed first. SIGTERM and SIGHUP
    end the block like an exception.

    Args:
        target: where the bundle will be.
        needed_bytes: estimate of what will be written.
        force: as `check_target`.

    Raises:
        ExportError: the disk is, or runs, full, the folder cannot be written, or another export is writing it.
    """
    parent = target.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with ended_by_signals(), locked(parent / f".{target.name}.export-lock", target):
            _clear(target)
            check_target(target, force=force)
            free_bytes = shutil.disk_usage(parent).free
            if free_bytes < needed_bytes:
                raise ExportError(_full_message(target, needed_bytes, free_bytes))
            try:
                folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.export-", dir=parent))
                folder.chmod(0o755)
                yield folder
            finally:
                _remove(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free_bytes = shutil.disk_usage(parent).free
            raise ExportError(_full_message(target, needed_bytes, free_bytes)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise ExportError(
                f"{target} cannot be written: {error.strerror}. Expected a writable folder; choose another -o."
            ) from error
        raise


def commit(folder: Path, target: Path) -> None:
    """Give the finished folder its name; an older bundle there is replaced, and removed when `staging` ends."""
    put_in_place(folder, target, _aside(target))


def _clear(target: Path) -> None:
    """End what a killed export began: its old bundle gets its name back, and its own folder is removed."""
    put_back(target, _aside(target))
    _remove(target)


def _remove(target: Path) -> None:
    prefix = f".{target.name}.export-"
    for path in target.parent.iterdir():
        if path.name.startswith(prefix) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.export-old")


def _full_message(target: Path, needed_bytes: int, free_bytes: int) -> str:
    return (
        f"{target} cannot be written: the disk has {free_bytes / _MB:.1f} MB free, and the export needs about "
        f"{needed_bytes / _MB:.1f} MB. Free some space, or choose another -o."
    )
