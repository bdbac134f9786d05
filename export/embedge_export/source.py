"""Hugging Face and sentence-transformers files to facts: the only reader of a checkpoint's configuration."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import msgspec

from embedge._types import Task
from embedge.errors import ExportError
from embedge.manifest import HeadSpec, LateInteractionSpec, PoolingSpec, Similarity, TemplateSpec
from embedge_export.families import Family, Loader, family_of
from embedge_export.modules import DenseModule, Modules, read_modules
from embedge_export.repository import Repository, open_repository, read_json, weight_files
from embedge_export.spec import ExportSpec

_SIMILARITIES = {
    "cosine": "cosine",
    "dot": "dot",
    "dot_product": "dot",
    "euclidean": "euclidean",
    "manhattan": "manhattan",
}


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as embedge understands it.

    Attributes:
        repository: where it is.
        transformer: folder of the transformer's config, weights and tokenizer.
        loader: class of transformers that computes it; None for static embeddings.
        family: facts about its architecture.
        model_type, architecture: as its config states them.
        tasks: what a bundle of it can do, the main one first.
        hidden_size: size of the hidden states.
        vocab_size: rows of the embedding matrix.
        max_positions: longest sequence that the position embeddings allow; None without a limit.
        stated_max_seq_len: limit that the caller or sentence_bert_config.json states.
        lowercase: lower-case the text first.
        weights: weight files by their path in the checkpoint, with their hashes.
        dense: Dense modules in order.
        trust_remote_code: run the checkpoint's own code.
        pooling, normalize, sparse, head, template, late_interaction, prompts, default_prompt_name, matryoshka,
            similarity: as in the manifest.
    """

    repository: Repository
    transformer: Path
    loader: Loader | None
    family: Family
    model_type: str
    architecture: str
    tasks: tuple[Task, ...]
    hidden_size: int
    vocab_size: int
    weights: dict[str, str]
    max_positions: int | None = None
    stated_max_seq_len: int | None = None
    lowercase: bool = False
    pooling: PoolingSpec | None = None
    dense: tuple[DenseModule, ...] = ()
    normalize: bool = False
    sparse: bool = False
    head: HeadSpec | None = None
    template: TemplateSpec | None = None
    late_interaction: LateInteractionSpec | None = None
    prompts: dict[str, str] = msgspec.field(default_factory=dict)
    default_prompt_name: str | None = None
    matryoshka: bool | tuple[int, ...] = False
    similarity: Similarity = "cosine"
    trust_remote_code: bool = False

    @property
    def unbounded_max_seq_len(self) -> int | None:
        """Limit for architectures that have none by themselves."""
        return self.family.default_max_seq_len

    @property
    def embedding_size(self) -> int | None:
        """Components of a full embedding, None where the bundle embeds nothing."""
        if "embed" not in self.tasks and "token_embed" not in self.tasks:
            return None
        if self.sparse:
            return self.vocab_size
        if self.dense:
            return self.dense[-1].out_features
        return self.hidden_size * (len(self.pooling.modes) if self.pooling else 1)


def read_checkpoint(spec: ExportSpec) -> Checkpoint:
    """Read everything that an export needs to know, and refuse what cannot be exported.

    Raises:
        ExportError: the checkpoint is unsafe, incomplete, contradictory or of a kind that embedge does not know.
    """
    repository = open_repository(spec)
    modules = read_modules(repository.folder)
    transformer = modules.folder if modules else repository.folder
    raw = read_json(transformer, "config.json")
    if not raw:
        raise ExportError(
            f"{repository.name} has no config.json; expected a Hugging Face checkpoint. "
            "Pass the folder that save_pretrained wrote."
        )
    if "auto_map" in raw and not spec.trust_remote_code:
        raise ExportError(
            f"{repository.name} brings its own Python code (auto_map in config.json), which exporting would run; "
            "expected an architecture of transformers. Read the code, then pass --trust-remote-code."
        )
    config = _config(transformer, spec.trust_remote_code)
    family = family_of(str(config.model_type))
    architectures = raw.get("architectures") or [type(config).__name__.replace("Config", "Model")]
    positions = getattr(config, "max_position_embeddings", None) if family.bounded_positions else None
    settings = modules.settings if modules else {}
    stated = read_json(repository.folder, "config_sentence_transformers.json")
    facts = _embedding_facts(spec, modules, family, int(config.hidden_size))
    checkpoint = Checkpoint(
        repository=repository,
        transformer=transformer,
        loader="AutoModel",
        family=family,
        model_type=str(config.model_type),
        architecture=str(architectures[0]),
        hidden_size=int(config.hidden_size),
        vocab_size=int(config.vocab_size),
        max_positions=int(positions) - family.position_offset if positions and positions > 0 else None,
        stated_max_seq_len=spec.max_seq_len or _positive(settings.get("max_seq_length")),
        lowercase=bool(settings.get("do_lower_case", False)),
        weights=hash_weights(repository.folder, [transformer, *(module.folder for module in facts["dense"])]),
        trust_remote_code=spec.trust_remote_code,
        prompts={**(stated.get("prompts") or {}), **spec.prompts},
        default_prompt_name=spec.default_prompt_name or stated.get("default_prompt_name"),
        similarity=_similarity(stated.get("similarity_fn_name")),
        **facts,
    )
    _check_prompts(checkpoint)
    size = checkpoint.embedding_size
    if size is None:
        return checkpoint
    return msgspec.structs.replace(checkpoint, matryoshka=_matryoshka(spec, raw, size))


def hash_weights(folder: Path, modules: list[Path]) -> dict[str, str]:
    """Hash the weight files of a checkpoint, by their path in it."""
    hashes = {}
    for module in modules:
        for path in weight_files(module):
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else None
                hashes[path.relative_to(folder).as_posix()] = (
                    digest.hexdigest() if digest else hashlib.sha256(stream.read()).hexdigest()
                )
    return hashes


def _config(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (ValueError, KeyError, OSError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ExportError(
            f"transformers cannot read config.json: {reason}. Check the file and its model_type."
        ) from error


def _embedding_facts(
    spec: ExportSpec, modules: Modules | None, family: Family, hidden_size: int
) -> dict[str, Any]:
    modes = spec.pooling or (modules.pooling if modules else ()) or (family.pooling,)
    dense = modules.dense if modules else ()
    if modules and modules.pooling_size not in (None, hidden_size):
        raise ExportError(
            f"the Pooling module expects rows of {modules.pooling_size}, the transformer gives {hidden_size}; "
            "expected equal sizes. Restore 1_Pooling/config.json from the model's origin."
        )
    if dense and dense[0].in_features != hidden_size * len(modes):
        raise ExportError(
            f"{dense[0].folder.name} takes {dense[0].in_features} features, but pooling {', '.join(modes)} gives "
            f"{hidden_size * len(modes)}; expected sizes that chain."
        )
    normalize = modules.normalize if modules else True
    tasks: tuple[Task, ...] = ("embed", "token_embed")
    if spec.task is not None and spec.task not in tasks:
        raise ExportError(
            f"task {spec.task!r} does not fit this checkpoint, which embeds; expected one of {', '.join(tasks)}"
        )
    return {
        "tasks": ("token_embed", "embed") if spec.task == "token_embed" else tasks,
        "pooling": PoolingSpec(modes=modes, include_prompt=modules.include_prompt if modules else True),
        "dense": dense,
        "normalize": normalize if spec.normalize is None else spec.normalize,
    }


def _matryoshka(spec: ExportSpec, raw: dict[str, Any], size: int) -> bool | tuple[int, ...]:
    stated = spec.matryoshka
    if stated is None:
        stated = raw.get("matryoshka_dimensions") or raw.get("is_matryoshka") or False
    if isinstance(stated, bool):
        return stated
    sizes = tuple(sorted({int(value) for value in stated}))
    wrong = [value for value in sizes if not 1 <= value <= size]
    if wrong or not sizes:
        raise ExportError(
            f"Matryoshka size {wrong[0] if wrong else 'list is empty'} does not fit; expected sizes from 1 to the "
            f"embedding's {size}. Correct --matryoshka or matryoshka_dimensions in config.json."
        )
    return sizes


def _similarity(stated: Any) -> Similarity:
    if stated is None:
        return "cosine"
    if str(stated) not in _SIMILARITIES:
        raise ExportError(
            f"similarity_fn_name {stated!r} is not known; expected one of {', '.join(_SIMILARITIES)}"
        )
    return cast("Similarity", _SIMILARITIES[str(stated)])


def _check_prompts(checkpoint: Checkpoint) -> None:
    name = checkpoint.default_prompt_name
    if name is not None and name not in checkpoint.prompts:
        raise ExportError(
            f"default_prompt_name {name!r} is not among the stored prompts; "
            f"expected one of {', '.join(checkpoint.prompts) or 'none: there are no prompts'}"
        )


def _positive(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and value > 0 else None
