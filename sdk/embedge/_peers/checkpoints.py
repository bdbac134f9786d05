"""The checkpoint that a bundle was exported from: a folder that is named, or what the hub's cache holds of it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from embedge.bundle import sha256_file
from embedge.errors import ParamsError
from embedge.manifest import SourceSpec

_GRAPH = "onnx/model.onnx"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint on this machine.

    Attributes:
        folder: of its files.
        graph: ONNX graph that it comes with, where it does; its path in the folder.
        graph_data: files of that graph's weights.
    """

    folder: Path
    graph: str | None
    graph_data: tuple[str, ...]


def find_checkpoint(source: SourceSpec, given: str | None) -> Checkpoint | str:
    """The checkpoint of a bundle, its weights compared with those that were exported.

    Args:
        source: as the manifest has it.
        given: a folder or a hub id that the caller names; None takes the source's name.

    Returns:
        It, or why there is none, in words.

    Raises:
        ParamsError: what the caller names is not there, or of other weights.
    """
    name = given or source.name
    folder = Path(name) if given is not None and Path(name).is_dir() else _cached(name, source.revision)
    if folder is None:
        reason = f"the checkpoint {name!r} is no folder here, nor in the hub's cache ({_cache()})"
        if given is not None:
            raise ParamsError(
                f"--checkpoint {given}: {reason}; expected the folder that the bundle was exported from"
            )
        return f"{reason}; --checkpoint FOLDER says where it is"
    other = _other_weights(folder, source)
    if other is not None:
        if given is not None:
            raise ParamsError(
                f"--checkpoint {given}: {other}; expected the checkpoint that the bundle was exported from"
            )
        return f"{folder}: {other}; --checkpoint FOLDER says where the right ones are"
    has_graph = (folder / _GRAPH).is_file()
    data = sorted(each.name for each in (folder / _GRAPH).parent.glob("model.onnx_data*"))
    return Checkpoint(
        folder=folder,
        graph=_GRAPH if has_graph else None,
        graph_data=tuple(f"onnx/{each}" for each in data) if has_graph else (),
    )


def _other_weights(folder: Path, source: SourceSpec) -> str | None:
    """What is wrong with a folder's weights, in words."""
    for file, sha256 in source.weights_sha256.items():
        path = folder / file
        if not path.is_file():
            return f"{file} is not there"
        if sha256_file(path) != sha256:
            return f"{file} holds other weights than those that were exported"
    return None


def _cache() -> Path:
    """Where huggingface_hub keeps what it fetched, by its own variables."""
    named = os.environ.get("HF_HUB_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home, "hub").expanduser()


def _cached(name: str, revision: str | None) -> Path | None:
    """The folder of a model's files in that cache."""
    if not 0 < len(name) < 200 or ".." in name:
        return None
    repository = _cache() / f"models--{name.replace('/', '--')}"
    head = repository / "refs" / "main"
    if revision is None and head.is_file():
        revision = head.read_text("utf-8").strip()
    folder = repository / "snapshots" / (revision or "none")
    return folder if folder.is_dir() else None
