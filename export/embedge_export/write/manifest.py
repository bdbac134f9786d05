"""What every way of making a bundle shares: the manifest, Dense modules and probes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from embedge.errors import MissingExtraError
from embedge.manifest import (
    PROBES_FILE,
    SCHEMA_VERSION,
    DenseSpec,
    Fidelity,
    GraphSpec,
    Manifest,
    Probes,
    SourceSpec,
    Variant,
    fingerprint,
)
from embedge.runtime import __version__
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.write.graph_files import file_records, save_dense

if TYPE_CHECKING:
    from embedge_export.source.tokenizer import Tokenization

PACKAGES = ("torch", "transformers", "onnx", "tokenizers")
"""What an export from weights needs, and every manifest states the versions of."""

UNMEASURED = Fidelity(num_texts=0, max_abs_diff=0.0, max_batch_diff=0.0)
_NO_FINGERPRINT = "0" * 64


def make_manifest(
    checkpoint: Checkpoint,
    tokenization: Tokenization,
    graph: GraphSpec,
    dense: tuple[DenseSpec, ...],
    variants: dict[str, Variant],
    folder: Path,
) -> Manifest:
    """The manifest of what lies in `folder`: the checkpoint's facts, hashes of the files, and a fingerprint."""
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
        ),
        exporter={
            "embedge": __version__,
            **{package: version for package in sorted(PACKAGES) if (version := _version(package))},
            **checkpoint.code,
        },
        fingerprint=_NO_FINGERPRINT,
    )
    return msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))


def save_modules(checkpoint: Checkpoint, folder: Path) -> tuple[DenseSpec, ...]:
    """Write the Dense modules for poolings that the graph does not have."""
    from embedge_export.source.torch_model import load_dense

    return tuple(
        DenseSpec(
            file=save_dense(folder, index, *load_dense(module)),
            in_features=module.in_features,
            out_features=module.out_features,
            activation=module.activation,
        )
        for index, module in enumerate(checkpoint.dense)
    )


def write_probes(probes: Probes, folder: Path) -> None:
    """Write probes.json."""
    encoded = msgspec.json.encode(probes, order="deterministic")
    (folder / PROBES_FILE).write_bytes(msgspec.json.format(encoded, indent=0) + b"\n")


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


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
