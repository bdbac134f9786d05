"""Bundles as things to pass on: one file made of a bundle, and bundles brought into the local store.

The network is used by `add` alone, and only for what is named by a URL or a hub's id.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from embedge import store
from embedge._contents.pin import check_pin, compare_pin
from embedge._passing.arriving import Progress, bring, files_of, manifests_of, write_manifest
from embedge._passing.downloading import download, is_url
from embedge._passing.hub import HubSource
from embedge._passing.sources import ArchiveSource, FolderSource, Source
from embedge.bundle import check_files, open_bundle
from embedge.errors import BundleError
from embedge.manifest import MANIFEST_FILE, Manifest, load_manifest
from embedge.store import ARCHIVE_SUFFIX
from embedge.types import PathLike

__all__ = ["add", "pack"]

_CHUNK_BYTES = 1 << 20
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w.-]+)?")


def pack(
    model: PathLike, output: PathLike, *, overwrite: bool = False, progress: Progress | None = None
) -> Path:
    """Write a bundle as one file: the same bytes from the same bundle, whenever and wherever it is done.

    Args:
        model: a bundle's folder, or its name in the store.
        output: the file, whose name ends in ".embedge".
        overwrite: replace a file that is there.
        progress: told the bytes that are written, and all of them.

    Returns:
        The file: a ZIP archive without compression, of what the manifest lists.

    Raises:
        BundleError: no bundle there, or the file may not be written.
        IntegrityError: a file of the bundle is missing or altered.
        OSError: it cannot be written.
    """
    bundle = open_bundle(model)
    target = Path(output).expanduser()
    if target.suffix != ARCHIVE_SUFFIX:
        raise BundleError(
            f"{target} does not end in {ARCHIVE_SUFFIX}; expected a name such as "
            f"{target.stem or 'model'}{ARCHIVE_SUFFIX}"
        )
    if target.exists() and not overwrite:
        raise BundleError(
            f"{target} is there already; expected a new file. Pass overwrite=True to replace it."
        )
    if not target.parent.is_dir():
        raise BundleError(
            f"there is no folder {target.parent} for {target.name}; expected one that is there."
        )
    check_files(bundle)
    source, records = FolderSource(bundle.folder), files_of(bundle)
    sizes = {name: (bundle.folder / name).stat().st_size for name in manifests_of(bundle)}
    sizes |= {name: record.size_bytes for name, record in sorted(records.items())}
    part = target.with_name(f".{target.name}.part")
    total, done = sum(sizes.values()), 0
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, size in sizes.items():
                entry = zipfile.ZipInfo(name, _TIME)
                entry.external_attr, entry.create_system, entry.file_size = _MODE, 3, size
                with archive.open(entry, "w") as written, source.open(name) as stream:
                    while chunk := stream.read(_CHUNK_BYTES):
                        written.write(chunk)
                        done += len(chunk)
                        if progress is not None:
                            progress(done, total)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def add(
    what: PathLike,
    *,
    name: str | None = None,
    fingerprint: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Bring a bundle into the local store; it is there whole, with every hash compared, or not at all.

    Args:
        what: an archive that `pack` wrote, a bundle's folder, the URL of an archive, or "organisation/model" of a model
            hub that holds a bundle, with "@revision" where a certain one is meant.
        name: in the store; None takes the hub's, else the last part of the one that the bundle states.
        fingerprint: the bundle's as you know it, or its first 12 digits or more; another bundle is refused.
        force: replace another bundle of this name.
        progress: told the bytes that are done, and all of them; once for what is downloaded, once for what is checked.

    Returns:
        Its folder in the store. A bundle that is there already, with the same fingerprint, stays.

    Raises:
        BundleError: nothing usable is there, it is another bundle than the fingerprint's, or a bundle of this name is
            in the store.
        IntegrityError: a file is not what the manifest states.
        MissingExtraError: a hub's id, and huggingface_hub is not installed.
        ParamsError: fingerprint is none.
    """
    if fingerprint is not None:
        check_pin(fingerprint)
    with _source(str(what), fingerprint, progress) as (source, stated_name):
        manifest = _manifest(source)
        compare_pin(manifest.fingerprint, fingerprint, source.words)
        # of an organisation a bundle may state anybody's
        target = store.bundle_path(
            (stated_name or manifest.name.rpartition("/")[2]) if name is None else name
        )
        if _is_there(target, manifest):
            return target

        def check(read: Manifest) -> None:  # once more, as this is what is written
            compare_pin(read.fingerprint, manifest.fingerprint, source.words)

        with store.staging(target, 0, force=force) as folder:
            bring(source, folder, check, progress)
            store.commit(folder, target)
    return target


@contextlib.contextmanager
def _source(
    what: str, fingerprint: str | None, progress: Progress | None
) -> Iterator[tuple[Source, str | None]]:
    """Where the files are, and the name that is known without them."""
    path = Path(what).expanduser()
    if is_url(what):
        kept = download(what, store.home() / ".downloads", progress, pinned=fingerprint is not None)
        try:
            with contextlib.closing(ArchiveSource(kept, what)) as source:
                yield source, None
        finally:  # it is whole, so that a later try could not go on with it
            kept.unlink(missing_ok=True)
            kept.with_suffix(".json").unlink(missing_ok=True)
    elif "://" in what:
        raise BundleError(f"{what} cannot be fetched; expected a URL of https.")
    elif path.is_dir():
        yield FolderSource(store.find(path)), None
    elif path.exists() or path.suffix == ARCHIVE_SUFFIX:
        with contextlib.closing(ArchiveSource(path)) as archive:
            yield archive, None
    elif _HUB_ID.fullmatch(what):
        yield HubSource(what), what.partition("@")[0]
    else:
        raise BundleError(
            f"{what!r} is no file or folder here, no URL and no hub's id; expected an archive ({ARCHIVE_SUFFIX}), "
            "a bundle's folder, https://… or organisation/model."
        )


def _is_there(target: Path, manifest: Manifest) -> bool:
    """Whether the store has the bundle under this name."""
    try:
        return load_manifest(target).fingerprint == manifest.fingerprint
    except BundleError:
        return False


def _manifest(source: Source) -> Manifest:
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(source, Path(folder), MANIFEST_FILE)
        return load_manifest(Path(folder))
