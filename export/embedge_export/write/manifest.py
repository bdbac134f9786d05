"""What every way of making a bundle shares: the manifest, modules and probes."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge.bundle import sha256_file
from embedge.errors import ExportError, MissingExtraError
from embedge.manifest import (
    MANIFEST_FILE,
    PROBES_FILE,
    SCHEMA_VERSION,
    DenseSpec,
    FileRecord,
    GraphSpec,
    LayerNormSpec,
    Manifest,
    ModuleSpec,
    NormalizeSpec,
    Probes,
    ReferenceRecord,
    SourceSpec,
    Variant,
    WitnessRecord,
    dump_manifest,
    fingerprint,
)
from embedge.runtime import __version__
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.modules import Dense, LayerNorm, Normalize, pooling_of
from embedge_export.source.tensors import LoadedModule

if TYPE_CHECKING:
    from embedge_export.source.tokenizer import Tokenization
    from embedge_export.source.weights import LoadedWeights

PACKAGES = ("onnx", "safetensors", "tokenizers")
WITH_TORCH = ("torch", "transformers")
"""What an export from weights needs."""

_STATED = ("torch", "transformers", "onnx", "tokenizers", "optimum", "optimum-onnx")
"""What every manifest states the versions of, where they are installed."""

_NO_FINGERPRINT = "0" * 64
_NONE: Mapping[str, FileRecord] = MappingProxyType({})


def make_manifest(
    checkpoint: Checkpoint,
    tokenization: Tokenization,
    graph: GraphSpec,
    modules: tuple[ModuleSpec, ...],
    variants: dict[str, Variant],
    folder: Path,
) -> Manifest:
    """The manifest of what lies in a folder.

    Args:
        checkpoint: its facts.
        tokenization: its tokenizer.
        graph: what is where in the graphs.
        modules: as `save_modules` wrote them.
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
        modules=modules,
        head=checkpoint.head,
        template=checkpoint.template,
        message=checkpoint.message,
        late_interaction=checkpoint.late_interaction,
        graph=graph,
        normalize=checkpoint.normalize,
        sparse=checkpoint.sparse,
        prompts=checkpoint.prompts,
        default_prompt_name=checkpoint.default_prompt_name,
        tower=checkpoint.tower,
        matryoshka=checkpoint.matryoshka,
        dimensions=checkpoint.dimensions,
        similarity=checkpoint.similarity,
        assumed=checkpoint.assumed,
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
        version=checkpoint.bundle_version,
    )
    return stamped(manifest)


def complete_manifest(
    manifest: Manifest,
    variants: dict[str, Variant],
    reference: ReferenceRecord | None,
    witness: WitnessRecord,
    folder: Path,
) -> Manifest:
    """A manifest with what its variants were compared with and came to, and the files that the folder has now.

    Those that are listed already keep the hash with which the SDK opened them to be compared.
    """
    files = file_records(folder, manifest.files)
    return stamped(
        msgspec.structs.replace(
            manifest, variants=variants, reference=reference, witness=witness, files=files
        )
    )


def with_reports(manifest: Manifest, names: Sequence[str], folder: Path) -> Manifest:
    """A manifest that lists these files of the folder too; the fingerprint leaves them out."""
    records = manifest.files | {name: _record(folder / name) for name in names}
    return msgspec.structs.replace(manifest, files=records)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.json."""
    (folder / MANIFEST_FILE).write_bytes(dump_manifest(manifest))


def replace_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.json of a bundle that may be in use: whoever reads it finds the old one or the new one.

    Raises:
        ExportError: the folder cannot be written.
    """
    scratch: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{MANIFEST_FILE}.", delete=False) as file:
            scratch = Path(file.name)
            file.write(dump_manifest(manifest))
            file.flush()
            os.fsync(file.fileno())
        scratch.chmod((folder / MANIFEST_FILE).stat().st_mode & 0o777)
        scratch.replace(folder / MANIFEST_FILE)
    except OSError as error:
        raise ExportError(
            f"{folder / MANIFEST_FILE} cannot be written: {error.strerror}; expected a bundle that may be changed. "
            "Pass --dry-run to compare only."
        ) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def write_probes(probes: Probes, folder: Path) -> None:
    """Write probes.json."""
    encoded = msgspec.json.encode(probes, order="deterministic")
    (folder / PROBES_FILE).write_bytes(msgspec.json.format(encoded, indent=0) + b"\n")


def save_modules(checkpoint: Checkpoint, weights: LoadedWeights, folder: Path) -> tuple[ModuleSpec, ...]:
    """Describe the modules around the pooling, and write their weights as modules/INDEX.npz.

    The SDK runs them itself for poolings that the graph does not have.
    """
    specs: list[ModuleSpec] = []
    files = 0
    per_token = pooling_of(checkpoint.twin) is not None or not checkpoint.rows
    for module in checkpoint.twin:
        match module:
            case Normalize():
                specs.append(NormalizeSpec(per_token=per_token))
            case Dense():
                specs.append(
                    DenseSpec(
                        file=_save_weights(folder, files, weights.modules[module]),
                        in_features=module.in_features,
                        out_features=module.out_features,
                        activation=module.activation,
                        use_residual=module.use_residual,
                        per_token=per_token,
                    )
                )
                files += 1
            case LayerNorm():
                file = _save_weights(folder, files, weights.modules[module])
                specs.append(LayerNormSpec(file=file, size=module.size, per_token=per_token))
                files += 1
            case _:  # Pooling, after which there is one row
                per_token = False
    return tuple(specs)


def file_records(folder: Path, known: Mapping[str, FileRecord] = _NONE) -> dict[str, FileRecord]:
    """Size and hash of every file of a bundle but its manifest, those that are known taken as they are."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = [path.as_posix() for path in paths]
    return {name: known.get(name) or _record(folder / name) for name in names if name != MANIFEST_FILE}


def require_packages(packages: Sequence[str], extra: str = "export") -> None:
    """Refuse to go on without packages of one of the exporter's extras.

    Raises:
        MissingExtraError: one is not installed.
    """
    missing = [package for package in packages if _version(package) is None]
    if missing:
        raise MissingExtraError(
            f"exporting needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed. "
            f"Install {'it' if len(missing) == 1 else 'them'} with: pip install 'embedge[{extra}]'"
        )


def stamped(manifest: Manifest) -> Manifest:
    """A manifest with its own fingerprint."""
    return msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))


def _record(path: Path) -> FileRecord:
    return FileRecord(size_bytes=path.stat().st_size, sha256=sha256_file(path))


def _save_weights(folder: Path, index: int, loaded: LoadedModule) -> str:
    arrays = {"weight": loaded.weight, "bias": loaded.bias, "residual": loaded.residual}
    content = io.BytesIO()
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(content, **kept)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle
    path = folder / "modules" / f"{index}.npz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.getvalue())
    return f"modules/{index}.npz"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
