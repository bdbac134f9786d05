"""The local bundle store: names to folders, never a network.

A name is that of a model, or of an organisation and its model with a slash between them; folders lie as names say.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from pathlib import Path

from embedge._locking import hold_file
from embedge._placing.staging import check_target, commit, staging
from embedge.errors import BundleError, ParamsError, did_you_mean, expected_one_of
from embedge.manifest import MANIFEST_FILE

__all__ = [
    "ARCHIVE_SUFFIX",
    "HOME_VARIABLE",
    "bundle_path",
    "check_target",
    "commit",
    "find",
    "hold_file",
    "home",
    "list_bundles",
    "name_of",
    "near_archive",
    "remove",
    "staging",
]

HOME_VARIABLE = "EMBEDGE_HOME"
ARCHIVE_SUFFIX = ".embedge"
"""Of a bundle that was packed as one file."""
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"
_DEVICE = r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?"
"""What no folder of Windows is named, whatever comes after the dot; a store may be copied there."""


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
        name: "model", or "organisation/model".

    Raises:
        BundleError: the name holds characters that no folder should have, or is a device's of Windows.
    """
    if not re.fullmatch(rf"({_WORD}/)?{_WORD}", name):
        raise BundleError(
            f"{name!r} is no bundle name; expected at most 200 letters, digits, '.', '_' and '-', as in "
            "'all-MiniLM-L6-v2' or 'sentence-transformers/all-MiniLM-L6-v2'"
        )
    for word in name.split("/"):
        if word.endswith(".") or re.fullmatch(_DEVICE, word, re.IGNORECASE):
            raise BundleError(
                f"{name!r} is no bundle name: Windows has no folder that is named {word!r}; expected another one"
            )
    return home().joinpath(*name.split("/"))


def list_bundles() -> list[Path]:
    """Folders of the store that hold a manifest, sorted by name.

    Raises:
        BundleError: the store is a file.
    """
    folder = home()
    if not folder.is_dir():
        if folder.exists():
            raise BundleError(
                f"the bundle store {folder} is a file; expected a folder. Set {HOME_VARIABLE} to one, or move the file."
            )
        return []
    own = {path.parent for path in folder.glob(f"*/{MANIFEST_FILE}")}
    # towers lie inside of their bundle; an export under way in a hidden folder beside its target
    of_others = {path.parent for path in folder.glob(f"*/*/{MANIFEST_FILE}") if path.parents[1] not in own}
    found = [
        path for path in own | of_others if not any(part[0] == "." for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=name_of)


def name_of(folder: Path) -> str:
    """The name of a bundle of the store, by its folder."""
    return folder.relative_to(home()).as_posix()


def remove(name: str) -> Path:
    """Remove a bundle from the store; models that are open keep working.

    Args:
        name: as for `find`; folders elsewhere are not touched.

    Returns:
        Where it lay.

    Raises:
        BundleError: there is none of this name, or another process is writing it.
    """
    folder = _stored(name)
    if folder is None:
        raise BundleError(
            f"no bundle is named {name!r} in the store {home()}; "
            f"{expected_one_of(map(name_of, list_bundles()), 'the store is empty')}."
            f"{did_you_mean(name, map(name_of, list_bundles()))}"
        )
    with hold_file(folder.parent / f".{folder.name}.export-lock") as is_held:
        if not is_held:
            raise BundleError(f"{folder} is being written by another process. Wait until it has ended.")
        aside = folder.with_name(f".{folder.name}.export-removed")
        folder.rename(aside)  # so that nobody finds half of it
        shutil.rmtree(aside)
    if folder.parent != home() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
    return folder


def _stored(name: str) -> Path | None:
    """The folder of a stored bundle; None where none has the name.

    Raises:
        BundleError: several have it, or it can be no bundle's.
    """
    folder = bundle_path(name)
    if (folder / MANIFEST_FILE).is_file():
        return folder
    bundles = list_bundles()
    same = [bundle for bundle in bundles if bundle.name == name]
    if len(same) == 1:
        return same[0]
    if same:
        names = ", ".join(map(name_of, same))
        raise BundleError(
            f"{name!r} is the name of several bundles in the store {home()}: {names}. Name one of them."
        )
    return None


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
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            path.stat()  # from Python 3.14 on, is_dir keeps what is wrong with a name to itself
        if path.is_dir():
            if (path / MANIFEST_FILE).is_file():
                return path
            raise BundleError(_not_a_bundle(path))
        if path.exists():
            raise BundleError(_not_a_folder(path))
    except (OSError, RuntimeError) as error:  # too long, not allowed, or ~ of a user that does not exist
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise BundleError(f"no bundle at {text[:80]!r}: {reason}. Expected a bundle's folder.") from error
    is_name = re.fullmatch(rf"({_WORD}/)?{_WORD}", text) is not None
    folder = _stored(text) if is_name else None
    if folder is None:
        raise BundleError(_not_there(text, path, is_name))
    return folder


def near_archive(path: Path) -> str:
    """A question that names an archive that lies where another one was looked for; empty where none is near."""
    with contextlib.suppress(OSError):
        return did_you_mean(path.name, [each.name for each in path.parent.glob(f"*{ARCHIVE_SUFFIX}")])
    return ""


def _not_there(text: str, path: Path, is_name: bool) -> str:
    if "://" in text:
        return (
            f"no bundle at {text!r}, which is a URL; expected a bundle's folder, or a name in the store. Bring the "
            f"bundle into the store with: embedge add {text}"
        )
    is_archive = path.suffix == ARCHIVE_SUFFIX
    stored = list(map(name_of, list_bundles())) if is_archive or is_name else []
    if is_archive:
        return (
            f"there is no file {text}; expected a bundle's folder, or a name in the store, into which an archive comes "
            f"with: embedge add {text}.{near_archive(path) or did_you_mean(path.stem, stored)}"
        )
    if is_name:
        meant = did_you_mean(text, stored)
        return (
            f"no bundle at {text!r}, neither as a folder nor by that name in the store {home()}, which "
            f"{'has ' + ', '.join(stored) if stored else 'is empty'}."
            f"{meant or f' Make one of a folder, or of a checkpoint on the hub, with: embedge export ORG/{text}'}"
        )
    return f"no bundle at {text!r}. Expected a bundle's folder; make one with: embedge export MODEL -o {text}"


def _not_a_folder(path: Path) -> str:
    if path.suffix == ARCHIVE_SUFFIX:
        return f"{path} is an archive; expected a bundle's folder. Bring it into the store with: embedge add {path}"
    return f"{path} is a file; expected the folder of a bundle, which holds {MANIFEST_FILE}"


def _not_a_bundle(path: Path) -> str:
    if (path / "config.json").is_file() or (path / "modules.json").is_file():
        return (
            f"{path} is a Hugging Face checkpoint, not a bundle (no {MANIFEST_FILE}). "
            f"Convert it with: embedge export {path} -o BUNDLE"
        )
    return f"{path} is no bundle: it has no {MANIFEST_FILE}. Expected a folder written by: embedge export MODEL -o DIR"
