"""A repository of a model hub becomes a folder: the files that an export reads, of one commit, and no others."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedge import store
from embedge.errors import EmbedgeError, ExportError, MissingExtraError
from embedge_export.progress import part, teller
from embedge_export.spec import ExportSpec

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_SETTINGS = ["*.json", "*.txt", "*.model", "*.jinja", "*.metadata", "README.md"]
_OTHERS = ["onnx/*", "*/onnx/*", "openvino/*", "*/openvino/*", "coreml/*", "runs/*", "checkpoint-*", "eval/*"]
_WITHOUT_WEIGHTS = ("Dropout", "LogitScore", "MultiVectorMask", "Normalize", "Pooling", "SpladePooling")
_SMALL_PART = 0.1  # of the time, which the weights take


def snapshot_of(folder: Path) -> Path | None:
    """The snapshot of the hub's cache that a folder is, or lies in."""
    for parent in (folder, *folder.parents):
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith("models--"):
            return parent
    return None


def hub_id(snapshot: Path) -> str:
    """What a repository is called, by the folder of a snapshot."""
    return snapshot.parent.parent.name.removeprefix("models--").replace("--", "/")


def download(spec: ExportSpec) -> Path:
    """Fetch a repository's settings, then the weights that they name, of the same commit.

    What the cache has is not fetched again, and what was cut off goes on where it stopped.

    Returns:
        The snapshot in the hub's cache.

    Raises:
        ExportError: there is no such repository or revision, it cannot be reached, or its weights are pickles only.
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(
            f"{spec.model} is no folder, and huggingface_hub, which could fetch it, is not installed. "
            "Install it with: pip install 'embedge[export]'"
        ) from error
    settings = [*_SETTINGS, "*.py"] if spec.trust_remote_code else _SETTINGS
    try:
        with _silent():
            bar = _bar_class()
            with part(0.0, _SMALL_PART):
                folder = Path(
                    snapshot_download(
                        spec.model,
                        revision=spec.revision,
                        allow_patterns=settings,
                        ignore_patterns=_OTHERS,
                        tqdm_class=bar,
                    )
                )
            missing = [
                name for path in _folders(folder, spec.tower) for name in _missing_weights(folder, path)
            ]
            if missing:
                with part(_SMALL_PART, 1.0):
                    snapshot_download(
                        spec.model, revision=folder.name, allow_patterns=missing, tqdm_class=bar
                    )
            pickle = None if spec.from_onnx else _find_pickle(spec, folder)
    except Exception as error:  # huggingface_hub's, and those of the HTTP client that its version has
        raise ExportError(
            f"{spec.model!r} is no folder, and {_reason(error, spec)}{_if_stored(spec.model)}"
        ) from error
    if pickle is not None:
        parent, _, file = f"{spec.model}/{pickle}".rpartition("/")
        raise pickles_only(parent, file)
    return folder


def pickles_only(name: str, pickle: str) -> ExportError:
    """The error for weights that are pickles."""
    return ExportError(
        f"the weights of {name} are pickles only ({pickle}), which can run code when read; expected {WEIGHTS}. "
        "Convert them where you trust the file: AutoModel.from_pretrained(MODEL)"
        ".save_pretrained(NEW, safe_serialization=True)"
    )


def _folders(folder: Path, tower: str | None) -> list[str]:
    """Folders in which a checkpoint's weights may lie, as modules.json names them, and a Router of the tower's."""
    from embedge_export.source.towers import without_routers  # which reads what was fetched

    try:
        listed = json.loads((folder / "modules.json").read_bytes())
        modules = [(str(module["type"]), str(module["path"])) for module in listed]
        modules = without_routers(folder, modules, tower)
        with_weights = (path.strip("/") for kind, path in modules if not kind.endswith(_WITHOUT_WEIGHTS))
        return list(dict.fromkeys(with_weights))
    except (ExportError, OSError, ValueError, KeyError, TypeError):  # which the readers will tell about
        return [""]


def _missing_weights(folder: Path, path: str) -> list[str]:
    """Files of weights that a module may have, and that are not here yet."""
    here = folder / path
    names = [WEIGHTS]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        shards = json.loads((here / INDEX).read_bytes()).get("weight_map", {}).values()
        names += sorted({str(shard) for shard in shards})
    single, *shards = names
    if (here / single).exists() or (shards and all((here / shard).exists() for shard in shards)):
        return []
    return [f"{path}/{name}" if path else name for name in names]


def _find_pickle(spec: ExportSpec, folder: Path) -> str | None:
    """What the repository has in place of weights that the folder lacks."""
    without = [
        path for path in _folders(folder, spec.tower) if not any((folder / path).glob("*.safetensors"))
    ]
    if not without:
        return None
    from huggingface_hub import list_repo_files

    names = sorted(list_repo_files(spec.model, revision=folder.name))
    pickles = (name for name in names if name.endswith(PICKLE_SUFFIXES))
    return next((name for name in pickles if name.rpartition("/")[0] in without), None)


def _reason(error: Exception, spec: ExportSpec) -> str:
    from huggingface_hub import constants

    kinds = {kind.__name__ for each in (error, error.__cause__) for kind in type(each).__mro__}
    hub = constants.ENDPOINT
    if "GatedRepoError" in kinds:
        return f"{hub} asks to accept the terms of the repository first. Do so there, and log in with: hf auth login"
    if "RepositoryNotFoundError" in kinds:
        return (
            f"{hub} has no repository of this name, or a private one; expected a folder or a hub id such as org/name. "
            "Check the name, or log in with: hf auth login"
        )
    if "RevisionNotFoundError" in kinds:
        return (
            f"{hub} has no revision {spec.revision!r} of the repository; expected a commit, branch or tag. "
            "Correct --revision."
        )
    if "OfflineModeIsEnabled" in kinds:
        return (
            "the network is switched off (HF_HUB_OFFLINE) and the hub's cache does not hold all of it; expected a "
            "folder or a repository that was fetched before. Unset HF_HUB_OFFLINE, or pass a folder."
        )
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return (
        f"{hub} did not give the repository: {lines[0].rstrip('.')}. Check the network and run the same command "
        "again, which goes on where it stopped, or pass a folder."
    )


def _if_stored(model: str) -> str:
    """What helps those who meant a bundle that they have."""
    try:
        folder = store.find(model)
    except EmbedgeError:
        return ""
    return f" The store has a bundle of this name, which needs no export: {folder}"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the hub's own bars and warnings off the screen: the running stage shows how far it is."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, without_bars = logger.level, are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not without_bars:
            enable_progress_bars()


def _bar_class() -> type:
    """A class in place of the hub's bar that draws nothing and tells the running stage."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._done = 0.0
            self._tell = teller()  # the stage is known to this thread alone
            super().__init__(*args, **(kwargs | {"disable": True}))

        def update(self, n: float | None = 1) -> None:
            self._done += n or 0
            if self.total:
                self._tell(self._done / self.total)

    return Bar
