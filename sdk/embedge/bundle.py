"""Open a bundle folder: its manifest, and the integrity of its files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge._contents.pinned import PinnedFile
from embedge.errors import BundleError, IntegrityError
from embedge.manifest import MANIFEST_FILE, Manifest, load_manifest
from embedge.store import find
from embedge.types import PathLike

_CHUNK_BYTES = 1 << 20


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle folder and its manifest.

    Attributes:
        folder: where the files lie.
        manifest: what they are.
        inside: of a tower inside of another bundle, the path of its own folder there, with a slash at the end.
        shared: of such a tower, files that lie elsewhere in that bundle, by name.
    """

    folder: Path
    manifest: Manifest
    inside: str = ""
    shared: dict[str, str] = msgspec.field(default_factory=dict)

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
        return self.folder / self._place(name)

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
        return PinnedFile(
            self.folder,
            name,
            size_bytes=record.size_bytes,
            sha256=record.sha256,
            check=check,
            place=self._place(name),
        )

    def replaced(self) -> bool:
        """Whether another bundle lies in the folder by now."""
        try:
            return load_manifest(self.folder, self.inside + MANIFEST_FILE) != self.manifest
        except BundleError:
            return True

    def _place(self, name: str) -> str:
        return self.shared.get(name, self.inside + name)


def open_bundle(model: PathLike) -> Bundle:
    """Find a bundle by path or stored name and read its manifest.

    Raises:
        BundleError: nothing there, or a folder that is no bundle.
        ManifestError: its manifest cannot be used.
    """
    folder = find(model)
    return Bundle(folder=folder, manifest=load_manifest(folder))


def open_towers(bundle: Bundle) -> dict[str, Bundle]:
    """The other towers of a model that embeds queries and documents apart, by name; empty for all other bundles.

    Raises:
        ManifestError: the manifest of one cannot be used.
        IntegrityError: it is not the one that the bundle was exported with.
    """
    towers = {}
    for name, spec in bundle.manifest.towers.items():
        file = f"{spec.folder}/{MANIFEST_FILE}"
        manifest = load_manifest(bundle.folder, file)
        if (manifest.fingerprint, manifest.tower) != (spec.fingerprint, name):
            raise IntegrityError(
                f"{bundle.folder / file} has the fingerprint {manifest.fingerprint}; the bundle's own manifest expects "
                f"{spec.fingerprint} for the {name} tower. Copy the bundle again, or export the model again.",
                file=file,
                expected_sha256=spec.fingerprint,
                actual_sha256=manifest.fingerprint,
            )
        towers[name] = Bundle(
            folder=bundle.folder, manifest=manifest, inside=f"{spec.folder}/", shared=spec.shared
        )
    return towers


def check_files(bundle: Bundle, names: list[str] | None = None) -> None:
    """Compare files with the sizes and hashes in the manifest.

    Args:
        bundle: the bundle.
        names: which files; None for all that the manifest lists, and those of all towers.

    Raises:
        IntegrityError: the first file that is missing, of another size, or of another hash.
    """
    for name in bundle.manifest.files if names is None else names:
        bundle.pinned(name).compare()
    if names is None:
        for tower in open_towers(bundle).values():
            check_files(tower)


def sha256_file(path: Path) -> str:
    """Hash a file in pieces; other threads run meanwhile."""
    import hashlib  # costs more at import than the rest of this module

    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
