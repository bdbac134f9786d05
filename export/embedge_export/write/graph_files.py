"""Put a bundle on disk: a folder beside the target that is renamed when it is complete, or removed."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from embedge.bundle import sha256_file
from embedge.errors import ExportError
from embedge.manifest import MANIFEST_FILE, FileRecord
from embedge.types import FloatArray
from embedge_export.families.structure import Load

if TYPE_CHECKING:
    import onnx

EXTERNAL_DATA_BYTES = 5_000_000
"""Graphs with more weights than this keep them in a file of their own, which loading maps into memory.

For MiniLM's int8 graph (23 MB) that takes 17 MB off the peak and a fifth off the time to open it."""

_SMALL_TENSOR_BYTES = 65_536
"""Smaller tensors stay in the graph: each one outside costs a mapping of its own."""

_PAGE_BYTES = 4096
_MB = 1_000_000


def check_target(target: Path, *, force: bool) -> None:
    """Refuse to write over anything but a bundle that the caller wants replaced.

    Raises:
        ExportError: the target is a file, another folder, or a bundle without `force`.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ExportError(
            f"{target} is a file or link; expected a folder to write the bundle to. Choose another -o."
        )
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / MANIFEST_FILE).is_file():
        raise ExportError(
            f"{target} is not empty and no bundle; expected a new folder, or a bundle to replace. Choose another -o."
        )
    if not force:
        raise ExportError(
            f"{target} already holds a bundle; expected a new folder. Pass --force to replace it."
        )


@contextlib.contextmanager
def staging(target: Path, needed_bytes: int) -> Iterator[Path]:
    """A new folder beside the target, removed whatever happens unless it was renamed to it.

    Args:
        target: where the bundle will be.
        needed_bytes: estimate of what will be written.

    Raises:
        ExportError: the disk is, or runs, full, or the folder cannot be written.
    """
    parent = target.parent
    folder: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(parent).free
        if free_bytes < needed_bytes:
            raise ExportError(_full_message(target, needed_bytes, free_bytes))
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
        folder.chmod(0o755)
        yield folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free_bytes = shutil.disk_usage(parent).free
            raise ExportError(_full_message(target, needed_bytes, free_bytes)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise ExportError(
                f"{target} cannot be written: {error.strerror}. Expected a writable folder; choose another -o."
            ) from error
        raise
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def commit(folder: Path, target: Path) -> None:
    """Give the finished folder its name; an older bundle there is replaced."""
    if not target.exists():
        folder.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    try:
        target.rename(old / target.name)
        try:
            folder.rename(target)
        except BaseException:
            (old / target.name).rename(target)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def save_graph(
    graph: onnx.ModelProto,
    folder: Path,
    stem: str,
    loads: Mapping[str, Load] | None = None,
    *,
    beside: tuple[onnx.ModelProto, Sequence[str]] | None = None,
) -> tuple[str, tuple[str, ...]]:
    """Write a graph as onnx/STEM.onnx, large weights as onnx/STEM.onnx_data beside it.

    Args:
        graph: the graph; its weights are gone from it afterwards where they went to a file of their own.
        folder: the bundle.
        stem: "model", "model_fp16" …
        loads: what reads the weights that have no values in the graph, one at a time.
        beside: a graph of the same checkpoint that was written before, and its data files: where there is one, weights
            of the same name are referred to in it, and others appended.

    Returns:
        The graph's file and its data files, as paths in the bundle.
    """
    loads = loads or {}
    path = folder / "onnx" / f"{stem}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    if sum(map(_size_bytes, graph.graph.initializer)) <= EXTERNAL_DATA_BYTES:
        for tensor in graph.graph.initializer:
            if tensor.name in loads:
                tensor.raw_data = loads[tensor.name]().tobytes()
        path.write_bytes(graph.SerializeToString(deterministic=True))
        return f"onnx/{stem}.onnx", ()
    data, there = f"{stem}.onnx_data", {}
    if beside is not None and beside[1]:
        data = Path(beside[1][0]).name
        there = {
            tensor.name: tensor
            for tensor in beside[0].graph.initializer
            if tensor.name in loads and tensor.external_data
        }
    with path.with_name(data).open("ab") as stream:
        for tensor in graph.graph.initializer:
            if tensor.name in there:
                tensor.CopyFrom(there[tensor.name])
                continue
            values = loads[tensor.name]().tobytes() if tensor.name in loads else tensor.raw_data
            if len(values) < _SMALL_TENSOR_BYTES:
                tensor.raw_data = values
            else:
                _move_outside(tensor, values, stream, data)
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return f"onnx/{stem}.onnx", (f"onnx/{data}",)


def _size_bytes(tensor: onnx.TensorProto) -> int:
    from onnx import helper

    return math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _move_outside(tensor: onnx.TensorProto, values: bytes, stream: BinaryIO, location: str) -> None:
    """Append a weight to the data file, on a page of its own, and say in the graph where it is."""
    from onnx import TensorProto

    stream.write(b"\0" * (-stream.tell() % _PAGE_BYTES))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    stated = {"location": location, "offset": str(stream.tell()), "length": str(len(values))}
    for key, value in stated.items():
        tensor.external_data.add(key=key, value=value)
    stream.write(values)


def save_dense(folder: Path, index: int, weight: FloatArray, bias: FloatArray | None) -> str:
    """Write a Dense module as modules/INDEX.npz, for poolings that the graph does not have."""
    arrays = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle
    path = folder / "modules" / f"{index}.npz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.getvalue())
    return f"modules/{index}.npz"


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every file of a bundle but its manifest."""
    records = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST_FILE:
            records[name] = FileRecord(size_bytes=path.stat().st_size, sha256=sha256_file(path))
    return records


def _full_message(target: Path, needed_bytes: int, free_bytes: int) -> str:
    return (
        f"{target} cannot be written: the disk has {free_bytes / _MB:.1f} MB free, and the export needs about "
        f"{needed_bytes / _MB:.1f} MB. Free some space, or choose another -o."
    )
