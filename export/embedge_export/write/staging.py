"""Where an export's bundle goes, and a folder beside it that becomes the bundle when it is complete, or is removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from embedge import store
from embedge.errors import ExportError
from embedge_export.interrupts import ended_by_signals
from embedge_export.spec import ExportSpec, expanded


def choose_target(spec: ExportSpec, name: str) -> Path:
    """Where the bundle of a model called `name` goes: the caller's folder, or one of the bundle store.

    Raises:
        ExportError: as `store.check_target`.
    """
    target = expanded(spec.output or store.bundle_path(name)).absolute()
    check_output(target, force=spec.force)
    return target


def check_output(target: Path, *, force: bool) -> None:
    """`store.check_target` for an export.

    Raises:
        ExportError: as `store.check_target`.
    """
    store.check_target(target, force=force, error=ExportError)


@contextlib.contextmanager
def staging(target: Path, needed_bytes: int, *, force: bool) -> Iterator[Path]:
    """`store.staging` for an export, whose block SIGTERM and SIGHUP end like an exception.

    Raises:
        ExportError: as `store.staging`.
    """
    with ended_by_signals(), store.staging(target, needed_bytes, force=force, error=ExportError) as folder:
        yield folder
