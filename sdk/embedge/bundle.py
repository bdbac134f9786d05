"""Open a bundle folder: its manifest, and the integrity of its files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge.errors import IntegrityError
from embedge.manifest import Manifest, NormalizeSpec, load_manifest
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

    def variant_files(self, variant: str) -> list[str]:
        """Names of the files that running a variant reads."""
        spec = self.manifest.variants[variant]
        modules = [module.file for module in self.manifest.modules if not isinstance(module, NormalizeSpec)]
        return ["tokenizer.json", *spec.files, *modules]


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
        path = bundle.file(name)
        record = bundle.manifest.files[name]
        advice = "Copy the bundle again, or export the model again."
        if not path.is_file():
            raise IntegrityError(
                f"{path} is missing; the manifest expects {record.size_bytes} bytes "
                f"with sha256 {record.sha256}. {advice}",
                file=name,
                expected_sha256=record.sha256,
            )
        size_bytes = path.stat().st_size
        if size_bytes != record.size_bytes:
            raise IntegrityError(
                f"{path} has {size_bytes} bytes; the manifest expects {record.size_bytes} "
                f"with sha256 {record.sha256}. {advice}",
                file=name,
                expected_sha256=record.sha256,
            )
        actual = sha256_file(path)
        if actual != record.sha256:
            raise IntegrityError(
                f"{path} was altered: its sha256 is {actual}; the manifest expects {record.sha256}. {advice}",
                file=name,
                expected_sha256=record.sha256,
                actual_sha256=actual,
            )


def sha256_file(path: Path) -> str:
    """Hash a file in pieces; other threads run meanwhile."""
    import hashlib  # costs more at import than the rest of this module

    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
