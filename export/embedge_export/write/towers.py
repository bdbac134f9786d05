"""Bundles of a model's towers become one bundle: the default one at its root, the others inside, equal weights once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from embedge.errors import ExportError
from embedge.manifest import (
    PROBES_FILE,
    REPORT_FILE,
    Manifest,
    TowerSpec,
    Variant,
    load_manifest,
)
from embedge_export.write.graph_files import move_outside
from embedge_export.write.manifest import file_records, stamped, write_manifest

if TYPE_CHECKING:
    import onnx

_FOLDER = "towers"
_OLD = ".old"


def check_towers(folders: Mapping[str, Path]) -> None:
    """Refuse towers whose embeddings nobody can compare, which is what one bundle of them would be for.

    Raises:
        ExportError: their sizes differ, or one is sparse.
    """
    facts = {}
    for name, folder in folders.items():
        manifest = load_manifest(folder)
        kind = "sparse" if manifest.sparse else "dense"
        facts[name] = f"{manifest.embedding_size} components, {kind}, compared by {manifest.similarity}"
    if len(set(facts.values())) > 1:
        stated = "; ".join(f"{name}: {words}" for name, words in facts.items())
        raise ExportError(
            f"the towers' embeddings cannot be compared ({stated}), so one bundle cannot hold them; expected the same "
            f"of all. Export each alone, into a bundle of its own: --tower {next(reversed(facts))}."
        )


def join_towers(
    folder: Path, folders: Mapping[str, Path], default_prompt_name: str | None, *, once: Sequence[str] = ()
) -> Manifest:
    """Move the bundles of all towers into one folder.

    Args:
        folder: of the new bundle.
        folders: the bundles, that of the tower that calls without a tower are for first; they are gone afterwards.
        default_prompt_name: prompt of calls without a tower.
        once: files that the bundle has for all towers.

    Returns:
        The new bundle's manifest, which is not written yet.
    """
    (first, root), *others = folders.items()
    for path in root.iterdir():
        path.rename(folder / path.name)
    manifest = load_manifest(folder)
    towers = {}
    for name, tower in others:
        inside = folder / _FOLDER / name
        inside.parent.mkdir(exist_ok=True)
        tower.rename(inside)
        for file in once:
            (inside / file).unlink()
        towers[name] = _share(folder, manifest, inside, prefix=first)
    whole = stamped(
        msgspec.structs.replace(
            manifest, towers=towers, default_prompt_name=default_prompt_name, files=file_records(folder)
        )
    )
    _restate(folder, manifest, whole)
    return msgspec.structs.replace(whole, files=file_records(folder))


def _share(folder: Path, first: Manifest, inside: Path, prefix: str) -> TowerSpec:
    """Take out of a tower what the first one has as well; `prefix` begins the tower's names of the first one's data."""
    before = load_manifest(inside)
    shared: dict[str, str] = {}
    variants = dict(before.variants)
    for name, variant in before.variants.items():
        if name in first.variants:
            used = _share_weights(folder, first.variants[name], inside, variant, prefix)
            shared |= used
            own = [file for file in variant.data_files if (inside / file).is_file()]
            variants[name] = msgspec.structs.replace(variant, data_files=(*own, *sorted(used)))
    there = {record.sha256: file for file, record in first.files.items()}
    records = file_records(inside)
    for file, record in list(records.items()):
        place = there.get(record.sha256)
        if place is not None and file not in (PROBES_FILE, REPORT_FILE):
            (inside / file).unlink()
            shared[file] = place
    records |= {file: first.files[place] for file, place in shared.items()}
    manifest = stamped(msgspec.structs.replace(before, variants=variants, files=records))
    _restate(inside, before, manifest)
    manifest = msgspec.structs.replace(manifest, files=records | file_records(inside))
    write_manifest(manifest, inside)
    for empty in [path for path in inside.iterdir() if path.is_dir() and not any(path.iterdir())]:
        empty.rmdir()
    return TowerSpec(
        folder=f"{_FOLDER}/{inside.name}",
        fingerprint=manifest.fingerprint,
        shared=dict(sorted(shared.items())),
    )


def _share_weights(
    folder: Path, first: Variant, inside: Path, variant: Variant, prefix: str
) -> dict[str, str]:
    """Let a tower's graphs refer to the first tower's data where that has their weights; their own keeps the others.

    Returns:
        The first tower's data files that are used, by their names in the tower.
    """
    there: dict[bytes, tuple[str, int]] = {}
    for graph in _graphs(folder, first).values():
        for tensor in _outside(graph):
            location, offset, content = _read(folder, tensor)
            there.setdefault(hashlib.sha256(content).digest(), (location, offset))
    graphs = _graphs(inside, variant)
    found = {
        _place(tensor): there[digest]
        for graph in graphs.values()
        for tensor in _outside(graph)
        if (digest := hashlib.sha256(_read(inside, tensor)[2]).digest()) in there
    }
    if not found:
        return {}
    for file in variant.data_files:
        (inside / file).rename(inside / f"{file}{_OLD}")
    kept: dict[tuple[str, int], int] = {}
    for file, graph in graphs.items():
        for tensor in _outside(graph):
            if (place := found.get(_place(tensor))) is not None:
                _refer(tensor, f"{prefix}_{place[0]}", place[1])
            else:
                _keep(inside, tensor, kept)
        (inside / file).write_bytes(graph.SerializeToString(deterministic=True))
    for file in variant.data_files:
        (inside / f"{file}{_OLD}").unlink()
    return {f"onnx/{prefix}_{location}": f"onnx/{location}" for location, _ in found.values()}


def _graphs(folder: Path, variant: Variant) -> dict[str, onnx.ModelProto]:
    """A variant's graphs, their large weights left where they are."""
    import onnx

    files = dict.fromkeys(file for file in (variant.file, variant.query_file) if file is not None)
    return {file: onnx.load_model(str(folder / file), load_external_data=False) for file in files}


def _outside(graph: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [tensor for tensor in graph.graph.initializer if tensor.external_data]


def _place(tensor: onnx.TensorProto) -> tuple[str, int]:
    """Data file and offset of a weight."""
    stated = {entry.key: entry.value for entry in tensor.external_data}
    return stated["location"], int(stated["offset"])


def _read(folder: Path, tensor: onnx.TensorProto, ending: str = "") -> tuple[str, int, bytes]:
    """Data file, offset and bytes of a weight."""
    location, offset = _place(tensor)
    length = int(next(entry.value for entry in tensor.external_data if entry.key == "length"))
    with (folder / "onnx" / f"{location}{ending}").open("rb") as stream:
        stream.seek(offset)
        return location, offset, stream.read(length)


def _refer(tensor: onnx.TensorProto, location: str, offset: int) -> None:
    for entry in tensor.external_data:
        if entry.key in ("location", "offset"):
            entry.value = location if entry.key == "location" else str(offset)


def _keep(folder: Path, tensor: onnx.TensorProto, kept: dict[tuple[str, int], int]) -> None:
    """Append a weight to the data file that takes the old one's place, once; `kept` has where those are by now."""
    place = _place(tensor)
    if place in kept:
        _refer(tensor, place[0], kept[place])
        return
    location, _, content = _read(folder, tensor, _OLD)
    with (folder / "onnx" / location).open("ab") as stream:
        del tensor.external_data[:]
        move_outside(tensor, content, stream, location)
    kept[place] = _place(tensor)[1]


def _restate(folder: Path, before: Manifest, after: Manifest) -> None:
    """Have the report name the bundle that it lies in."""
    path = folder / REPORT_FILE
    text = path.read_text("utf-8").replace(before.fingerprint[:16], after.fingerprint[:16])
    path.write_text(text, "utf-8", newline="\n")
