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


def move_weights_outside(bundle: Path) -> None:
    """Put the weights of the float32 graph into a file beside it."""
    import onnx

    path = bundle / "onnx" / "model.onnx"
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=200)

    def listed(manifest: Manifest) -> Manifest:
        spec = msgspec.structs.replace(manifest.variants["fp32"], data_files=("onnx/model.onnx_data",))
        files = manifest.files | {"onnx/model.onnx_data": manifest.files["onnx/model.onnx"]}
        return msgspec.structs.replace(manifest, variants={"fp32": spec}, files=files)

    rewrite(bundle, listed)


def edit_graph(bundle: Path, change: Callable[[object], None]) -> None:
    """Change the float32 graph and make the hashes fit."""
    import onnx

    path = bundle / "onnx" / "model.onnx"
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    rewrite(bundle)
