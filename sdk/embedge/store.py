"""The local bundle store: names to folders, never a network."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from embedge._locking import hold_file
from embedge.errors import BundleError, ParamsError
from embedge.manifest import MANIFEST_FILE

__all__ = ["HOME_VARIABLE", "bundle_path", "find", "hold_file", "home", "list_bundles"]

HOME_VARIABLE = "EMBEDGE_HOME"


def home() -> Path:
    """Folder of the store: EMBEDGE_HOME, else the platform's place for application data.

    Raises:
        BundleError: there is none, as the user has no home directory.
    """
    try:
        return _home()
    except RuntimeError as error:
        raise BundleError(
            f"there is no place for the bundle store: {str(error).rstrip('.')}. Set {HOME_VARIABLE} to a folder, or "
            "name bundles by their folders."
        ) from error


def _home() -> Path:
    stated = os.environ.get(HOME_VARIABLE)
    if stated:
        return Path(stated).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "embedge"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "embedge"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "embedge"


def bundle_path(name: str) -> Path:
    """Where a bundle of this name lies in the store, or would lie.

    Args:
        name: a bundle's name; of "organisation/model" only the last part counts.

    Raises:
        BundleError: the name holds characters that no folder should have.
    """
    leaf = name.rsplit("/", 1)[-1]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", leaf):
        raise BundleError(
            f"{name!r} is no bundle name; expected letters, digits, '.', '_' and '-', as in 'all-MiniLM-L6-v2'"
        )
    return home() / leaf


def list_bundles() -> list[Path]:
    """Folders of the store that hold a manifest, sorted by name."""
    folder = home()
    if not folder.is_dir():
        return []
    # an export under way lies in a hidden folder beside its target
    found = (path.parent for path in folder.glob(f"*/{MANIFEST_FILE}"))
    return sorted(path for path in found if not path.name.startswith("."))


def find(model: str | os.PathLike[str]) -> Path:
    """Resolve a path or a stored name to a bundle folder.

    Raises:
        BundleError: nothing is there, or it is a folder without a manifest.
        ParamsError: neither text nor a path.
    """
    text: object = model.__fspath__() if isinstance(model, os.PathLike) else model
    if not isinstance(text, str) or not text:
        raise ParamsError(f"model={model!r} names no bundle; expected a folder, or a name in the store")
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            if (path / MANIFEST_FILE).is_file():
                return path
            raise BundleError(_not_a_bundle(path))
        if path.exists():
            raise BundleError(
                f"{path} is a file; expected the folder of a bundle, which holds {MANIFEST_FILE}"
            )
    except (OSError, RuntimeError) as error:  # too long, not allowed, or ~ of a user that does not exist
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise BundleError(f"no bundle at {text[:80]!r}: {reason}. Expected a bundle's folder.") from error
    if re.fullmatch(r"([A-Za-z0-9._-]+/)?[A-Za-z0-9][A-Za-z0-9._-]*", text):
        stored = bundle_path(text)
        if (stored / MANIFEST_FILE).is_file():
            return stored
        names = ", ".join(bundle.name for bundle in list_bundles()) or "none"
        raise BundleError(
            f"no bundle at {text!r}, neither as a folder nor by that name in the store {home()} (there: {names}). "
            f"Make one with: embedge export {text}"
        )
    raise BundleError(
        f"no bundle at {text!r}. Expected a bundle's folder; make one with: embedge export MODEL -o {text}"
    )


def _not_a_bundle(path: Path) -> str:
    if (path / "config.json").is_file() or (path / "modules.json").is_file():
        return (
            f"{path} is a Hugging Face checkpoint, not a bundle (no {MANIFEST_FILE}). "
            f"Convert it with: embedge export {path} -o BUNDLE"
        )
    return f"{path} is no bundle: it has no {MANIFEST_FILE}. Expected a folder written by: embedge export MODEL -o DIR"
