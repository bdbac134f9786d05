"""A folder beside the target that becomes the bundle when it is complete, or is removed."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from embedge._placing.locking import locked
from embedge._placing.swapping import put_back, put_in_place
from embedge.errors import BundleError, EmbedgeError
from embedge.manifest import MANIFEST_FILE

_MB = 1_000_000


def check_target(target: Path, *, force: bool, error: type[EmbedgeError] = BundleError) -> None:
    """Refuse to write over anything but a bundle that the caller wants replaced.

    Args:
        target: where a bundle is going to lie.
        force: replace one that lies there.
        error: what is raised.

    Raises:
        EmbedgeError: the target is a file or below one, another folder, or a bundle without `force`.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise error(
            f"{target} is a file or link; expected a folder to write the bundle to. Choose another one."
        )
    _check_above(target, error)
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / MANIFEST_FILE).is_file():
        raise error(
            f"{target} is not empty and no bundle; expected a new folder, or a bundle to replace. Choose another one."
        )
    if not force:
        raise error(f"{target} already holds a bundle; expected a new folder. Pass --force to replace it.")


@contextlib.contextmanager
def staging(
    target: Path, needed_bytes: int, *, force: bool, error: type[EmbedgeError] = BundleError
) -> Iterator[Path]:
    """A new folder beside the target, removed whatever happens unless `commit` gave it the target's name.

    What earlier writers of the same target left behind, because they were killed, is removed first.

    Args:
        target: where the bundle will be.
        needed_bytes: estimate of what will be written.
        force: as `check_target`.
        error: what is raised.

    Raises:
        EmbedgeError: the disk is, or runs, full, the folder cannot be written, or another process is writing it.
    """
    parent = target.parent
    try:
        _make(parent, target, error)
        with locked(parent / f".{target.name}.export-lock", target, error):
            _clear(target)
            check_target(target, force=force, error=error)
            free_bytes = shutil.disk_usage(parent).free
            if free_bytes < needed_bytes:
                raise error(_full_message(target, needed_bytes, free_bytes))
            try:
                folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.export-", dir=parent))
                folder.chmod(0o755)
                yield folder
            finally:
                _remove(target)
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            free_bytes = shutil.disk_usage(parent).free
            raise error(_full_message(target, needed_bytes, free_bytes)) from failure
        if failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise error(_cannot_message(target, failure)) from failure
        raise


def commit(folder: Path, target: Path) -> None:
    """Give the finished folder its name; an older bundle there is replaced, and removed when `staging` ends."""
    put_in_place(folder, target, _aside(target))


def _check_above(target: Path, error: type[EmbedgeError]) -> None:
    """Refuse a target for which no folder can be made."""
    above = next(each for each in target.absolute().parents if each.exists())
    if not above.is_dir():
        raise error(f"{target} cannot be written: {above} is a file; expected a folder. Choose another one.")


def _make(parent: Path, target: Path, error: type[EmbedgeError]) -> None:
    """Make the folder in which the target will lie; there is nothing yet that another failure could come from."""
    try:
        _check_above(target, error)
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise error(_cannot_message(target, failure)) from failure


def _clear(target: Path) -> None:
    """End what a killed writer began: its old bundle gets its name back, and its own folder is removed."""
    put_back(target, _aside(target))
    _remove(target)


def _remove(target: Path) -> None:
    prefix = f".{target.name}.export-"
    for path in target.parent.iterdir():
        if path.name.startswith(prefix) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.export-old")


def _cannot_message(target: Path, failure: OSError) -> str:
    return f"{target} cannot be written: {failure.strerror}. Expected a writable folder; choose another one."


def _full_message(target: Path, needed_bytes: int, free_bytes: int) -> str:
    return (
        f"{target} cannot be written: the disk has {free_bytes / _MB:.1f} MB free, and the bundle needs about "
        f"{needed_bytes / _MB:.1f} MB. Free some space, or choose another place."
    )
