"""What every way of making a bundle shares: the manifest, Dense modules and probes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge.bundle import sha256_file
from embedge.errors import MissingExtraError
from embedge.manifest import (
    MANIFEST_FILE,
    PROBES_FILE,
    SCHEMA_VERSION,
    DenseSpec,
    FileRecord,
    GraphSpec,
    Manifest,
    Probes,
    SourceSpec,
    Variant,
    dump_manifest,
    fingerprint,
)
from embedge.runtime import __version__
from embedge.types import FloatArray
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.tensors import DenseWeights

if TYPE_CHECKING:
    from embedge_export.source.tokenizer import Tokenization

PACKAGES = ("torch", "transformers", "onnx", "tokenizers")
"""What an export from weights needs."""

_STATED = (*PACKAGES, "optimum", "optimum-onnx")
"""What every manifest states the versions of, where they are installed."""

_NO_FINGERPRINT = "0" * 64


def make_manifest(
    checkpoint: Checkpoint,
    tokenization: Tokenization,
    graph: GraphSpec,
    dense: tuple[DenseSpec, ...],
    variants: dict[str, Variant],
    folder: Path,
) -> Manifest:
    """The manifest of what lies in a folder.

    Args:
        checkpoint: its facts.
        tokenization: its tokenizer.
        graph: what is where in the graphs.
        dense: Dense modules, as they were written.
        variants: the graphs.
        folder: the bundle, whose files are hashed.
    """
    repository = checkpoint.repository
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=repository.name,
        architecture=checkpoint.architecture,
        tasks=checkpoint.tasks,
        hidden_size=checkpoint.hidden_size,
        embedding_size=checkpoint.embedding_size,
        vocab_size=checkpoint.vocab_size,
        max_seq_len=tokenization.max_seq_len,
        tokenizer=tokenization.spec,
        pooling=checkpoint.pooling,
        modules=dense,
        head=checkpoint.head,
        template=checkpoint.template,
        message=checkpoint.message,
        late_interaction=checkpoint.late_interaction,
        graph=graph,
        normalize=checkpoint.normalize,
        sparse=checkpoint.sparse,
        prompts=checkpoint.prompts,
        default_prompt_name=checkpoint.default_prompt_name,
        matryoshka=checkpoint.matryoshka,
        dimensions=checkpoint.dimensions,
        similarity=checkpoint.similarity,
        variants=variants,
        files=file_records(folder),
        source=SourceSpec(
            name=repository.name,
            weights_sha256=checkpoint.weights,
            revision=repository.revision,
            licence=repository.licence,
            ignored_keys=checkpoint.ignored_keys,
        ),
        exporter={
            "embedge": __version__,
            **{package: version for package in sorted(_STATED) if (version := _version(package))},
            **checkpoint.code,
        },
        fingerprint=_NO_FINGERPRINT,
    )
    return _stamped(manifest)


def complete_manifest(manifest: Manifest, variants: dict[str, Variant], folder: Path) -> Manifest:
    """A manifest with other variants or figures, and the folder's files hashed again."""
    return _stamped(msgspec.structs.replace(manifest, variants=variants, files=file_records(folder)))


def with_reports(manifest: Manifest, names: Sequence[str], folder: Path) -> Manifest:
    """A manifest that lists these files of the folder too; the fingerprint leaves them out."""
    records = manifest.files | {name: _record(folder / name) for name in names}
    return msgspec.structs.replace(manifest, files=records)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.json."""
    (folder / MANIFEST_FILE).write_bytes(dump_manifest(manifest))


def write_probes(probes: Probes, folder: Path) -> None:
    """Write probes.json."""
    encoded = msgspec.json.encode(probes, order="deterministic")
    (folder / PROBES_FILE).write_bytes(msgspec.json.format(encoded, indent=0) + b"\n")


def save_modules(dense: Sequence[DenseWeights], folder: Path) -> tuple[DenseSpec, ...]:
    """Write the Dense modules as modules/INDEX.npz, for poolings that the graph does not have."""
    return tuple(
        DenseSpec(
            file=_save_dense(folder, index, each.weight, each.bias),
            in_features=each.module.in_features,
            out_features=each.module.out_features,
            activation=each.module.activation,
        )
        for index, each in enumerate(dense)
    )


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every file of a bundle but its manifest."""
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {name.as_posix(): _record(folder / name) for name in names if name.as_posix() != MANIFEST_FILE}


def require_packages(packages: Sequence[str]) -> None:
    """Refuse to go on without packages of the exporter's extra.

    Raises:
        MissingExtraError: one is not installed.
    """
    missing = [package for package in packages if _version(package) is None]
    if missing:
        raise MissingExtraError(
            f"exporting needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed. "
            "Install the exporter with: pip install 'embedge[export]'"
        )


def _stamped(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))


def _record(path: Path) -> FileRecord:
    return FileRecord(size_bytes=path.stat().st_size, sha256=sha256_file(path))


def _save_dense(folder: Path, index: int, weight: FloatArray, bias: FloatArray | None) -> str:
    arrays = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle
    path = folder / "modules" / f"{index}.npz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.getvalue())
    return f"modules/{index}.npz"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
