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
from embedge_export.spec import ExportSpec

_MB = 1_000_000


def choose_target(spec: ExportSpec, name: str) -> Path:
    """Where the bundle of a model called `name` goes: the caller's folder, or one of the bundle store.

    Raises:
        ExportError: as `check_target`.
    """
    target = (spec.output or store.bundle_path(name)).expanduser().absolute()
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
def staging(target: Path, needed_bytes: int) -> Iterator[Path]:
    """A new folder beside the target, removed whatever happens unless it was renamed to it.

    Args:
        target: where the bundle will be.
        needed_bytes: estimate of what will be written.

    Raises:
        ExportError: the disk is, or runs, full, or the folder cannot be written.
    """
    parent = target.parent
    folder: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(parent).free
        if free_bytes < needed_bytes:
            raise ExportError(_full_message(target, needed_bytes, free_bytes))
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
        folder.chmod(0o755)
        yield folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free_bytes = shutil.disk_usage(parent).free
            raise ExportError(_full_message(target, needed_bytes, free_bytes)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise ExportError(
                f"{target} cannot be written: {error.strerror}. Expected a writable folder; choose another -o."
            ) from error
        raise
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def commit(folder: Path, target: Path) -> None:
    """Give the finished folder its name; an older bundle there is replaced."""
    if not target.exists():
        folder.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    try:
        target.rename(old / target.name)
        try:
            folder.rename(target)
        except BaseException:
            (old / target.name).rename(target)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _full_message(target: Path, needed_bytes: int, free_bytes: int) -> str:
    return (
        f"{target} cannot be written: the disk has {free_bytes / _MB:.1f} MB free, and the export needs about "
        f"{needed_bytes / _MB:.1f} MB. Free some space, or choose another -o."
    )
