"""Hugging Face and sentence-transformers files to facts: the one door to a checkpoint."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.types import Task
from embedge_export.source.causal_reranker import read_causal_reranker
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.checksums import hash_settings, hash_weights
from embedge_export.source.classifier import (
    Classifier,
    PooledClassifier,
    TokenClassifier,
    is_pooled_classifier,
    read_head,
    read_pooled_classifier,
    read_reward,
)
from embedge_export.source.embedder import (
    Embedder,
    Splade,
    read_dimensions,
    read_embedder,
    read_matryoshka,
    read_similarity,
    read_splade,
)
from embedge_export.source.fields import optional_text, texts_by_name
from embedge_export.source.files import STATED, Files, read_files
from embedge_export.source.kinds import KINDS, Kind, What
from embedge_export.source.late_interaction import (
    LateInteraction,
    is_late_interaction,
    read_late_interaction,
)
from embedge_export.source.modules import in_words, row_size, weighted
from embedge_export.source.static import (
    MODEL2VEC_MAX_SEQ_LEN,
    Static,
    is_static,
    read_static,
    read_table_shape,
)
from embedge_export.source.tokenizer import (
    Tokenization,
    describe_tokenizer,
    load_plain_tokenizer,
    load_tokenizer,
)
from embedge_export.source.transformer import Transformer, read_transformer
from embedge_export.spec import ExportSpec

_TRANSFORMER_TASKS: dict[Kind, str] = {
    "classifier": "sequence-classification",
    "embedding": "feature-extraction",
    "late_interaction": "feature-extraction",
    "pooled_classifier": "feature-extraction",
    "sparse": "fill-mask",
}
"""What modules.json loads the transformer for."""


class Source(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A checkpoint that was read, its weights apart.

    Attributes:
        checkpoint: its facts.
        tokenization: its tokenizer.
    """

    checkpoint: Checkpoint
    tokenization: Tokenization


class _Prompts(msgspec.Struct, frozen=True):
    texts: dict[str, str]
    default_name: str | None

    @property
    def default(self) -> str | None:
        return self.texts.get(self.default_name or "")


def open_checkpoint(spec: ExportSpec) -> Source:
    """Read everything that an export needs to know, and refuse what cannot be exported.

    Raises:
        ExportError: the checkpoint is unsafe, incomplete, contradictory or of a kind that embedge does not know.
        MissingExtraError: a hub id, and huggingface_hub is not installed.
    """
    files = read_files(spec)
    folder = files.repository.folder
    settings = hash_settings(folder)
    kind = _find_kind(files, spec)
    _check_modules(kind, files, spec)
    transformer = read_table_shape(files) if kind == "static" else read_transformer(files, spec)
    prompts = _read_prompts(files, spec)
    tokenizer = load_plain_tokenizer(files) if kind == "static" else load_tokenizer(files, transformer.code)
    what = _read_what(kind, files, spec, transformer, tokenizer, prompts.default)
    size = _embedding_size(what, transformer)
    matryoshka, dimensions = _sizes(files, spec, what, size)
    tasks = _tasks(kind, what, spec, transformer)
    chains = [getattr(what, "rows", ()), getattr(what, "tokens", ())]
    folders = list(dict.fromkeys([files.transformer, *(module.folder for module in weighted(*chains))]))
    checkpoint = Checkpoint(
        repository=files.repository,
        transformer=files.transformer,
        what=what,
        family=transformer.family,
        model_type=transformer.model_type,
        architecture=transformer.architecture,
        tasks=tasks,
        hidden_size=transformer.hidden_size,
        embedding_size=size,
        num_attention_heads=transformer.num_attention_heads,
        vocab_size=transformer.vocab_size,
        max_positions=transformer.max_positions,
        stated_max_seq_len=_stated_max_seq_len(files, spec, transformer, is_static=kind == "static"),
        weights=hash_weights(folder, folders, optional=spec.from_onnx is not None and kind != "static"),
        code=transformer.code,
        settings=settings,
        config_kwargs=files.settings.config_kwargs,
        prompts=prompts.texts,
        default_prompt_name=prompts.default_name,
        matryoshka=matryoshka,
        dimensions=dimensions,
        similarity=read_similarity(files),
    )
    return Source(checkpoint=checkpoint, tokenization=describe_tokenizer(tokenizer, checkpoint))


def _find_kind(files: Files, spec: ExportSpec) -> Kind:
    modules = files.modules
    architecture = (files.architectures or ("",))[0]
    if is_static(files):
        return "static"
    if modules and modules.splade is not None:
        return "sparse"
    if (
        (modules and modules.logit_score is not None)
        or spec.yes_token
        or (spec.task == "score" and "CausalLM" in architecture)
    ):
        return "causal_reranker"
    if is_pooled_classifier(files):
        return "pooled_classifier"
    if is_late_interaction(files):
        return "late_interaction"
    if spec.task in ("embed", "token_embed"):
        return "embedding"
    if files.settings.transformer_task == "sequence-classification" or (
        architecture.endswith("ForSequenceClassification") and not modules
    ):
        return "classifier"
    if architecture.endswith("ForTokenClassification") and not modules:
        return "reward" if spec.step_tag or spec.pooling == ("STEP",) else "token_classifier"
    return "embedding"


def _check_modules(kind: Kind, files: Files, spec: ExportSpec) -> None:
    """Refuse what sentence-transformers would do with the transformer and the bundle would not.

    Raises:
        ExportError: another class is loaded, modules stand after a head, or lengths go by the task.
    """
    modules, settings = files.modules, files.settings
    if modules is None or kind == "static":
        return
    wanted = _TRANSFORMER_TASKS.get(kind)
    if (
        wanted is not None
        and settings.transformer_task != wanted
        and spec.task is None
        and not spec.yes_token
    ):
        raise ExportError(
            f"{settings.file} states transformer_task {settings.transformer_task!r}, and modules.json is that of a "
            f"model for {wanted}; expected {wanted}. Restore both from the model's origin."
        )
    if kind in ("classifier", "causal_reranker") and modules.sequence:
        raise ExportError(
            f"modules.json has {in_words(modules.sequence[0])} after a transformer that gives logits; expected none. "
            "Such modules are not exported."
        )
    if modules.mask is not None and kind != "late_interaction":
        raise ExportError(
            f"modules.json has a MultiVectorMask module, and the rest is that of a model for {kind}; expected one for "
            "late interaction. Such modules are not exported."
        )
    for name in ("query_length", "document_length", "query_expansion"):
        if getattr(settings, name) is not None and modules.mask is None:
            raise ExportError(
                f"{settings.file} states {name}, so that queries and documents are cut apart, which is not exported "
                "from there yet; expected it in config_sentence_transformers.json. Please report this with the "
                "model's name."
            )


def _read_what(
    kind: Kind,
    files: Files,
    spec: ExportSpec,
    transformer: Transformer,
    tokenizer: Any,
    instruction: str | None,
) -> What:
    match kind:
        case "embedding":
            return read_embedder(files, spec, transformer)
        case "late_interaction":
            return read_late_interaction(files, transformer, tokenizer)
        case "sparse":
            return read_splade(files)
        case "static":
            return read_static(files, spec, transformer)
        case "classifier":
            return Classifier(head=read_head(files, spec))
        case "pooled_classifier":
            return read_pooled_classifier(files, spec, transformer)
        case "token_classifier":
            return TokenClassifier(head=read_head(files, spec))
        case "reward":
            return read_reward(files, spec, tokenizer)
        case "causal_reranker":
            return read_causal_reranker(files, spec, tokenizer, spec.instruction or instruction)


def _tasks(kind: Kind, what: What, spec: ExportSpec, transformer: Transformer) -> tuple[Task, ...]:
    tasks = KINDS[kind].tasks
    if isinstance(what, Classifier | PooledClassifier) and len(what.head.labels) == 1:
        tasks = ("score", "classify")
    if spec.task is None:
        return tasks
    if spec.task not in tasks:
        raise ExportError(
            f"task {spec.task!r} does not fit {transformer.architecture}, which is for {', '.join(tasks)}; "
            "expected one of these. Leave out --task."
        )
    return (spec.task, *(task for task in tasks if task != spec.task))


def _embedding_size(what: What, transformer: Transformer) -> int | None:
    match what:
        case Splade():
            return transformer.vocab_size
        case Embedder(rows=rows) | Static(rows=rows):
            return row_size(rows, transformer.hidden_size)
        case LateInteraction(tokens=tokens):
            return row_size(tokens, transformer.hidden_size)
    return None


def _sizes(
    files: Files, spec: ExportSpec, what: What, size: int | None
) -> tuple[bool | tuple[int, ...], int | None]:
    """Sizes that may be asked for, and the one that the checkpoint itself cuts to."""
    if size is None:
        return False, None
    matryoshka = read_matryoshka(files, spec, size)
    # the library does not cut rows of terms and of tokens
    dimensions = None if isinstance(what, Splade | LateInteraction) else read_dimensions(files, size)
    if dimensions is not None and matryoshka is not True:
        # the checkpoint itself cuts, so it was made for that; whoever wants all components may ask for them
        matryoshka = tuple(sorted({*(matryoshka or ()), dimensions, size}))
    return matryoshka, dimensions


def _stated_max_seq_len(
    files: Files, spec: ExportSpec, transformer: Transformer, *, is_static: bool
) -> int | None:
    if spec.max_seq_len:
        return spec.max_seq_len
    if is_static:
        return MODEL2VEC_MAX_SEQ_LEN if transformer.model_type == "model2vec" else None
    return files.settings.limit


def _read_prompts(files: Files, spec: ExportSpec) -> _Prompts:
    texts = {**texts_by_name(files.stated.get("prompts") or {}, "prompts", STATED), **spec.prompts}
    name = spec.default_prompt_name
    if not name:
        name = optional_text(files.stated.get("default_prompt_name"), "default_prompt_name", STATED)
    if name is not None and name not in texts:
        raise ExportError(
            f"default_prompt_name {name!r} is not among the stored prompts; "
            f"expected one of {', '.join(texts) or 'none: there are no prompts'}"
        )
    return _Prompts(texts, name)
