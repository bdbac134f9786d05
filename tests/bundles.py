"""Changes to bundles for tests: a copy with other facts, files or weights, and hashes that fit again or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from embedge.bundle import sha256_file
from embedge.manifest import FileRecord, Manifest, dump_manifest, fingerprint, load_manifest


def copy(bundle: Path, folder: Path) -> Path:
    return shutil.copytree(bundle, folder / bundle.name)


def rewrite(bundle: Path, change: Callable[[Manifest], Manifest] = lambda m: m) -> None:
    """Write the manifest anew, with the hashes that the files have now."""
    manifest = change(load_manifest(bundle))
    files = {
        name: FileRecord(size_bytes=(bundle / name).stat().st_size, sha256=sha256_file(bundle / name))
        for name in manifest.files
    }
    manifest = msgspec.structs.replace(manifest, files=files)
    manifest = msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))
    (bundle / "manifest.json").write_bytes(dump_manifest(manifest))


def edit_graph(bundle: Path, change: Callable[[object], None]) -> None:
    """Change the float32 graph and make the hashes fit."""
    import onnx

    path = bundle / "onnx" / "model.onnx"
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    rewrite(bundle)
