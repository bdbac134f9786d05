"""Find a checkpoint's files, and refuse those that are unsafe or unusable before anything reads them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from embedge.errors import BundleError, ExportError
from embedge.manifest import load_manifest
from embedge.store import ARCHIVE_SUFFIX
from embedge_export.source.hub import (
    INDEX,
    PICKLE_SUFFIXES,
    WEIGHTS,
    download,
    hub_id,
    pickles_only,
    snapshot_of,
)
from embedge_export.spec import ExportSpec, expanded

_BEGINNINGS = "config.json", "modules.json", "adapter_config.json"
"""Files of which a checkpoint, or what is taken for one, has some; the last is refused with words of its own."""
NO_CHECKPOINT = "expected a Hugging Face checkpoint. Pass the folder that save_pretrained wrote."
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_GENERIC_NAMES = re.compile(
    r"(model|models|checkpoint|output|outputs|out|final|best|tmp|export)?([-_]?\d+)?", re.IGNORECASE
)


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint's folder and what its surroundings say about it.

    Attributes:
        folder: the checkpoint.
        name: hub id, or the best name that its files state.
        revision: commit, where known.
        licence: as the model card states it.
    """

    folder: Path
    name: str
    revision: str | None = None
    licence: str | None = None


def open_repository(spec: ExportSpec) -> Repository:
    """Find the checkpoint and check that it stays within its folder.

    Raises:
        ExportError: no such checkpoint, a folder that is none, or a link or path that leads outside of it.
        MissingExtraError: a hub id, and huggingface_hub is not installed.
    """
    folder = expanded(spec.model)
    if folder.is_dir():
        folder = folder.resolve()
        if spec.from_onnx is None:  # which may take a bundle's config and tokenizer
            _refuse_bundle(spec.model, folder)
        snapshot = snapshot_of(folder)
        if spec.revision is not None and (snapshot is None or snapshot.name != spec.revision):
            raise ExportError(
                f"revision {spec.revision!r} is asked of {folder.name}, which is a folder and has no "
                "revisions; expected a hub id. Leave out --revision, or check the revision out yourself."
            )
    elif folder.suffix == ARCHIVE_SUFFIX and "://" not in spec.model:
        what = "an archive of a bundle"
        if not folder.exists():
            what = "named as an archive of a bundle, and not there"
        raise ExportError(
            f"{spec.model} is {what}; "
            "expected a checkpoint's folder, or a hub id such as org/name. A bundle needs no export; bring it into the "
            f"store with: embedge add {spec.model}"
        )
    elif folder.exists():
        raise ExportError(
            f"{spec.model} is a file; expected the folder of a checkpoint, which holds config.json"
        )
    elif "://" in spec.model:
        raise ExportError(
            f"{spec.model} is a URL; expected a checkpoint's folder, or its name on the hub, such as org/name"
        )
    elif _HUB_ID.fullmatch(spec.model):
        folder = download(spec)
    else:
        raise ExportError(
            f"{spec.model} does not exist; expected a checkpoint's folder, or a hub id such as org/name"
        )
    snapshot = snapshot_of(folder)
    if not any(os.path.lexists(folder / name) for name in _BEGINNINGS):
        raise ExportError(f"{folder.name} has no config.json; {NO_CHECKPOINT}")
    # the hub's cache keeps files beside the snapshots and links to them
    _check_links(folder, folder if snapshot is None else snapshot.parent.parent)
    readme = folder / "README.md"
    card = readme.read_text("utf-8", errors="replace") if readme.is_file() else ""
    licence = re.search(r"^license:\s*[\"']?([\w.+-]+)", _front_matter(card), re.MULTILINE)
    return Repository(
        folder=folder,
        name=spec.name or _name(folder, card),
        revision=None if snapshot is None else snapshot.name,
        licence=licence[1] if licence else None,
    )


def _refuse_bundle(model: str, folder: Path) -> None:
    """Refuse what an export wrote, which has a checkpoint's settings and none of its weights.

    Raises:
        ExportError: the folder is a bundle.
    """
    try:
        manifest = load_manifest(folder)
    except BundleError:
        return
    source = manifest.source.name
    raise ExportError(
        f"{model} is a bundle already, of {source}; expected a checkpoint's folder, or a hub id such as org/name. "
        f"Use it as it is, bring it into the store with embedge add {model}, or export {source} itself."
    )


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON object of the checkpoint; an absent file reads as an empty one.

    Raises:
        ExportError: the file is no JSON object, or lies outside of the folder.
    """
    path = inside(folder, name)
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ExportError(
            f"{name} is not valid JSON: {error}. Restore the file from the model's origin."
        ) from error
    if not isinstance(value, dict):
        raise ExportError(f"{name} holds a {type(value).__name__}; expected a JSON object")
    return value


def inside(folder: Path, name: str) -> Path:
    """Join a path that a checkpoint's file states, and refuse one that leads out of the checkpoint.

    Raises:
        ExportError: it does.
    """
    path = folder / name
    if Path(name).is_absolute() or not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
        raise ExportError(
            f"the checkpoint names the path {name!r}, which lies outside of its folder; expected a path within"
        )
    return path


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a module's weights, each complete by its own header.

    Raises:
        ExportError: there are none, the weights are pickles, a shard is missing, a file is none or incomplete, or two
            weights have one name.
    """
    files = _weight_files(folder)
    found: dict[str, str] = {}
    for file in files:
        for name in _check_complete(file):
            if name in found:
                raise ExportError(
                    f"{folder.name} holds two weights {name!r}, in {found[name]} and in {file.name}; expected one. "
                    "Copy the checkpoint again, or restore the file from the model's origin."
                )
            found[name] = file.name
    return files


def _weight_files(folder: Path) -> list[Path]:
    single = folder / WEIGHTS
    if single.is_file():  # an index beside it is left over, and no library reads it
        return [single]
    index = read_json(folder, INDEX)
    if index:
        shards = sorted({inside(folder, str(name)) for name in index.get("weight_map", {}).values()})
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing or not shards:
            raise ExportError(
                f"{INDEX} names {missing[0] if missing else 'no shard'}, which is missing; "
                "expected every shard beside it. Copy the checkpoint again."
            )
        return shards
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise pickles_only(folder.name, pickles[0])
    raise ExportError(
        f"{folder.name} holds no weights; expected model.safetensors. Copy the checkpoint again."
    )


def _check_complete(file: Path) -> list[str]:
    """Names of a file's weights, as often as its header has them."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if start == b"version ":
            raise ExportError(
                f"{file.name} in {file.parent.name} is a Git LFS pointer of {size} bytes, not the weights; expected "
                "the file that it stands for. Run git lfs pull in the repository."
            )
        length = int.from_bytes(start, "little")
        header = stream.read(length) if length < size else b""
    try:
        # pairs, as an object would hide a name that is there twice
        pairs = json.loads(header, object_pairs_hook=tuple)
        if not isinstance(pairs, tuple):
            raise TypeError(pairs)
        tensors = [(name, dict(facts)) for name, facts in pairs if name != "__metadata__"]
        ends = [int(facts["data_offsets"][1]) for _, facts in tensors]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ExportError(
            f"{file.name} in {file.parent.name} is no safetensors file of {size} bytes; expected a header that names "
            "its tensors. Copy the checkpoint again."
        ) from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ExportError(
            f"{file.name} in {file.parent.name} has {size} bytes; its header states {expected}. "
            "Copy the checkpoint again."
        )
    return [name for name, _ in tensors]


def _check_links(folder: Path, root: Path) -> None:
    for parent, names, files in os.walk(folder):
        for name in [*names, *files]:
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
                raise ExportError(
                    f"{path.relative_to(folder).as_posix()} is a link that leads outside of the checkpoint; "
                    "expected plain files. Copy the checkpoint with: cp -rL"
                )


def _front_matter(card: str) -> str:
    matched = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    return matched[1] if matched else ""


def _name(folder: Path, card: str) -> str:
    snapshot = snapshot_of(folder)
    if snapshot is not None:
        return (Path(hub_id(snapshot)) / folder.relative_to(snapshot)).as_posix()
    if not _GENERIC_NAMES.fullmatch(folder.name):
        return folder.name
    stated = re.search(r"model-index:\s*\n-\s*name:\s*[\"']?([^\s\"']+)", _front_matter(card))
    title = re.search(r"^#\s+(\S+)\s*$", card, re.MULTILINE)
    own = str(read_json(folder, "config.json").get("_name_or_path") or "")
    for candidate in (stated and stated[1], title and title[1], own):
        if candidate and _HUB_ID.fullmatch(candidate):
            return candidate
    return folder.name or "model"
