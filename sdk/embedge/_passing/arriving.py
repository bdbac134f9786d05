"""A bundle's files come into a new folder: exactly those that its manifest lists, each of its size and hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from embedge._contents.regular import check_name
from embedge._passing.sources import Source
from embedge.bundle import Bundle, open_towers
from embedge.errors import BundleError, IntegrityError
from embedge.manifest import MANIFEST_FILE, FileRecord, Manifest, load_manifest

Progress: TypeAlias = Callable[[int, int], None]
"""Told the bytes that are done, and all of them."""
_CHUNK_BYTES = 1 << 20
_MOST_MANIFEST_BYTES = 8_000_000


def bring(
    source: Source, folder: Path, check: Callable[[Manifest], None], progress: Progress | None = None
) -> None:
    """Write a bundle into an empty folder.

    Args:
        source: where its files come from.
        folder: where they go.
        check: raises where the bundle is not the one that was meant; asked before anything but manifests is read.
        progress: told what is done.

    Raises:
        BundleError: a file is missing or cannot be read, there are others, or `check` says so.
        IntegrityError: a file is of another size or hash than the manifest says.
        OSError: a file cannot be written.
    """
    write_manifest(source, folder, MANIFEST_FILE)
    bundle = Bundle(folder=folder, manifest=load_manifest(folder))
    check(bundle.manifest)
    for tower in bundle.manifest.towers.values():
        check_name(tower.folder)
        write_manifest(source, folder, f"{tower.folder}/{MANIFEST_FILE}")
    wanted = files_of(bundle)
    others = (source.names or frozenset()) - {*wanted, *manifests_of(bundle)}
    if others:
        raise BundleError(
            f"{source.words} holds {min(others)!r}, which the bundle's manifest does not list; expected its files "
            "alone. Get it again from where it was made."
        )
    total, done = sum(record.size_bytes for record in wanted.values()), 0
    for name, record in wanted.items():
        with source.open(name) as stream:
            for written in _copied(stream, folder, name, record, source.words):
                done += written
                if progress is not None:
                    progress(done, total)


def files_of(bundle: Bundle) -> dict[str, FileRecord]:
    """Every file of a bundle and of the towers inside of it, without manifests, by its path."""
    files = dict(bundle.manifest.files)
    for tower in open_towers(bundle).values():
        for name, record in tower.manifest.files.items():
            if name not in tower.shared:
                files[tower.inside + name] = record
    return files


def manifests_of(bundle: Bundle) -> list[str]:
    """The paths of its manifests, its own first."""
    return [MANIFEST_FILE, *(f"{tower.folder}/{MANIFEST_FILE}" for tower in bundle.manifest.towers.values())]


def write_manifest(source: Source, folder: Path, name: str) -> None:
    """Write one of the manifests as it is; nothing of it is read here.

    Raises:
        BundleError: it is not there, or larger than any.
    """
    with source.open(name) as stream:
        content = stream.read(_MOST_MANIFEST_BYTES + 1)
    if len(content) > _MOST_MANIFEST_BYTES:
        raise BundleError(
            f"{name} of {source.words} has more than {_MOST_MANIFEST_BYTES} bytes, which none has."
        )
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _copied(stream: BinaryIO, folder: Path, name: str, record: FileRecord, words: str) -> Iterator[int]:
    """Copy a file that the manifest lists; yields the bytes of each piece."""
    check_name(name)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as written:
        while chunk := stream.read(min(_CHUNK_BYTES, record.size_bytes + 1 - size)):
            size += len(chunk)
            digest.update(chunk)
            written.write(chunk)
            yield len(chunk)
            if size > record.size_bytes:
                break
    if (size, digest.hexdigest()) != (record.size_bytes, record.sha256):
        raise IntegrityError(
            f"{name} of {words} is not the file that the manifest lists; expected {record.size_bytes} bytes with the "
            f"sha256 {record.sha256}, and it has {'more' if size > record.size_bytes else size} with "
            f"{digest.hexdigest()}. Get the bundle again.",
            file=name,
            expected_sha256=record.sha256,
            actual_sha256=digest.hexdigest(),
        )
