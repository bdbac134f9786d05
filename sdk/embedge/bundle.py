"""Open a bundle folder: its manifest, and the integrity of its files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge._contents.pinned import PinnedFile
from embedge.errors import BundleError, IntegrityError
from embedge.manifest import Manifest, load_manifest
from embedge.store import find
from embedge.types import PathLike

_CHUNK_BYTES = 1 << 20


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle folder and its manifest.

    Attributes:
        folder: where the files lie.
        manifest: what they are.
    """

    folder: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            IntegrityError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise IntegrityError(
                f"{name} is not among the files that the manifest of {self.folder} lists. Export the model again.",
                file=name,
                expected_sha256="",
            )
        return self.folder / name

    def read(self, name: str) -> bytes:
        """Content of a file that the manifest lists; its hash is compared before it is given.

        Raises:
            IntegrityError: the manifest does not list it, or it is missing or altered.
            BundleError: it is no regular file inside of the bundle.
        """
        return self.pinned(name).read()

    def pinned(self, name: str, *, check: bool = True) -> PinnedFile:
        """A file that the manifest lists, opened for as long as the object lives.

        Args:
            name: of the file.
            check: compare the hash of what is read with the manifest's.

        Raises:
            IntegrityError, BundleError: as `read`, but for the hash.
        """
        self.file(name)
        record = self.manifest.files[name]
        return PinnedFile(self.folder, name, size_bytes=record.size_bytes, sha256=record.sha256, check=check)

    def replaced(self) -> bool:
        """Whether another bundle lies in the folder by now."""
        try:
            return load_manifest(self.folder) != self.manifest
        except BundleError:
            return True


def open_bundle(model: PathLike) -> Bundle:
    """Find a bundle by path or stored name and read its manifest.

    Raises:
        BundleError: nothing there, or a folder that is no bundle.
        ManifestError: its manifest cannot be used.
    """
    folder = find(model)
    return Bundle(folder=folder, manifest=load_manifest(folder))


def check_files(bundle: Bundle, names: list[str] | None = None) -> None:
    """Compare files with the sizes and hashes in the manifest.

    Args:
        bundle: the bundle.
        names: which files; None for all that the manifest lists.

    Raises:
        IntegrityError: the first file that is missing, of another size, or of another hash.
    """
    for name in bundle.manifest.files if names is None else names:
        bundle.pinned(name).compare()


def sha256_file(path: Path) -> str:
    """Hash a file in pieces; other threads run meanwhile."""
    import hashlib  # costs more at import than the rest of this module

    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
