"""Where a worker's cases take place: a bundle that is sound, and a copy that is changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge import EdgeModel
from embedge.errors import EmbedgeError
from embedge.manifest import MANIFEST_FILE, Manifest, dump_manifest, fingerprint
from embedge.testing import tiny_bundle

TEXTS = ("the river and the sea", "good", "a very dark cold night, no water.", "")
_ZEROS = "0" * 64


def before_asking() -> None:
    """Here a bundle's part of a case begins, and what it took to make it is over."""
    if (counters := Path("/proc/self/clear_refs")).exists():
        counters.write_text("5")  # the most memory that was held so far


class DiffersError(Exception):
    """An answer that is neither the sound bundle's nor an error."""


class Place:
    """A sound bundle in a scratch folder, and its changed copy.

    Args:
        scratch: an empty folder.
        **made: what kind of bundle; see tiny_bundle.
    """

    def __init__(self, scratch: Path, **made: Any) -> None:
        self.sound = tiny_bundle(scratch / "sound", **made)
        self.folder = Path(shutil.copytree(self.sound, scratch / "changed"))
        self.manifest: dict[str, Any] = json.loads((self.sound / MANIFEST_FILE).read_bytes())
        self._dirty: set[str] = set()
        self.answer = self.ask(self.sound)

    def ask(self, folder: Path | None = None) -> np.ndarray:
        """What the bundle answers to a few texts."""
        before_asking()
        with EdgeModel(folder or self.folder, device="cpu", threads=1) as model:
            return model.embed(TEXTS).numpy()

    def compare(self) -> None:
        """The changed bundle answers as the sound one.

        Raises:
            DiffersError: it answers otherwise.
        """
        found = self.ask()
        if found.shape != self.answer.shape or np.abs(found - self.answer).max() > 1e-5:
            raise DiffersError("an altered bundle was taken for the sound one and answered otherwise")

    def check_numbers(self) -> None:
        """The changed bundle answers numbers, whatever they are.

        Raises:
            DiffersError: it answers something that is no number.
        """
        found = self.ask()
        if len(found) != len(TEXTS) or not np.isfinite(found).all():
            raise DiffersError(f"{found.shape} answers, or such as are no numbers")

    def write(self, name: str, content: bytes) -> None:
        """Put a changed file into the copy."""
        (self.folder / name).write_bytes(content)
        self._dirty.add(name)

    def sign(self, manifest: dict[str, Any] | None = None) -> None:
        """Write a manifest whose hashes, checksum and fingerprint fit, as far as it is one."""
        stated = json.loads(json.dumps(self.manifest if manifest is None else manifest))
        for name in self._dirty - {MANIFEST_FILE}:
            content = (self.folder / name).read_bytes()
            stated["files"][name] = {
                "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        self.write(MANIFEST_FILE, sealed(stated))

    def restore(self) -> None:
        """Make the copy sound again."""
        for name in self._dirty:
            shutil.copyfile(self.sound / name, self.folder / name)
        self._dirty.clear()


def sealed(stated: Any) -> bytes:
    """A manifest as the exporter would write it, with whatever it states."""
    if isinstance(stated, dict):
        stated = {key: item for key, item in stated.items() if key != "checksum"}
        try:
            manifest = msgspec.convert(stated, Manifest)
            return dump_manifest(msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest)))
        except (msgspec.ValidationError, EmbedgeError, ValueError, TypeError, RecursionError, AttributeError):
            pass
        stated = {**stated, "checksum": _ZEROS}
    # without its indentation, which would be most of what is nested deeply
    content = json.dumps(stated, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
    before, zeros, after = content.rpartition(_ZEROS.encode())
    return before + hashlib.sha256(content).hexdigest().encode() + after if zeros else content
