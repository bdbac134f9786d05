"""Hugging Face and sentence-transformers files to facts: the one door to a checkpoint."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import TemplateSpec
from embedge.types import Task
from embedge_export.source.causal_reranker import read_causal_reranker
from embedge_export.source.chat_template import (
    Chat,
    read_chat,
    read_pair_template,
    read_template,
    renders_messages,
    shows_pairs,
)
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
from embedge_export.source.conflicts import (
    check_flags,
    check_instruction,
    check_model_type,
    check_modules,
    check_prompts,
    check_room,
    check_sparse,
    check_types,
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
from embedge_export.source.files import Files, read_files
from embedge_export.source.kinds import KINDS, Kind, What
from embedge_export.source.late_interaction import (
    LateInteraction,
    is_late_interaction,
    read_late_interaction,
)
from embedge_export.source.libraries import is_light
from embedge_export.source.modules import row_size, weighted
from embedge_export.source.prompts import read_prompts
from embedge_export.source.static import (
    Static,
    is_static,
    read_static,
    read_table_shape,
)
from embedge_export.source.tokenizer import Tokenization, describe_tokenizer
from embedge_export.source.tokenizer_loading import load_plain_tokenizer, load_tokenizer, told_apart
from embedge_export.source.transformer import Transformer, check_length, read_transformer
from embedge_export.spec import ExportSpec


class Source(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A checkpoint that was read, its weights apart.

    Attributes:
        checkpoint: its facts.
        tokenization: its tokenizer.
    """

    checkpoint: Checkpoint
    tokenization: Tokenization


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
    check_model_type(kind, files, spec)
    check_flags(kind, files, spec)
    check_modules(kind, files, spec)
    transformer = read_table_shape(files) if kind == "static" else read_transformer(files, spec)
    prompts = read_prompts(files, spec)
    tokenizer = (
        load_plain_tokenizer(files)
        if kind == "static"
        else load_tokenizer(files, transformer.code, spec.ignore_keys, light=is_light(spec))
    )
    what = _read_what(kind, files, spec, transformer, tokenizer, prompts.default)
    check_instruction(what, spec)
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
        stated_max_seq_len=_stated_max_seq_len(files, spec, what),
        weights=hash_weights(folder, folders, optional=spec.from_onnx is not None and kind != "static"),
        code=transformer.code,
        config=transformer.config,
        config_words=transformer.config_words,
        ignored_keys=spec.ignore_keys,
        bundle_version=spec.bundle_version,
        settings=settings,
        config_kwargs=files.settings.config_kwargs,
        tokenizer_words=() if kind == "static" else told_apart(tokenizer, files),
        message=_message(kind, files, tokenizer),
        prompts=prompts.texts,
        default_prompt_name=prompts.default_name,
        tower=spec.tower,
        matryoshka=matryoshka,
        dimensions=dimensions,
        similarity=read_similarity(files, is_sparse=kind == "sparse", by_token=kind == "late_interaction"),
    )
    tokenization = describe_tokenizer(tokenizer, checkpoint, _chat(checkpoint, files, tokenizer))
    check_length(transformer, tokenization.max_seq_len)
    if kind == "classifier" and tokenization.spec.segments:
        check_types(files, tokenizer)
    check_room(tokenization)
    check_prompts(checkpoint, tokenization)
    check_length(transformer, tokenization.max_seq_len)
    return Source(checkpoint=checkpoint, tokenization=tokenization)


def _find_kind(files: Files, spec: ExportSpec) -> Kind:
    modules = files.modules
    architecture = (files.architectures or ("",))[0]
    if is_static(files):
        return "static"
    if (modules and modules.splade is not None) or spec.kind == "sparse":
        check_sparse(files, architecture)
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
            return Classifier(
                head=read_head(files, spec), template=_pair_template(files, spec, tokenizer, instruction)
            )
        case "pooled_classifier":
            return read_pooled_classifier(files, spec, transformer)
        case "token_classifier":
            return TokenClassifier(head=read_head(files, spec))
        case "reward":
            return read_reward(files, spec, tokenizer)
        case "causal_reranker":
            return read_causal_reranker(files, spec, tokenizer, spec.instruction or instruction)


def _message(kind: Kind, files: Files, tokenizer: Any) -> TemplateSpec | None:
    """What sentence-transformers puts an embedder's texts into."""
    if kind not in ("embedding", "late_interaction", "sparse") or files.modules is None:
        return None
    if not renders_messages(files, tokenizer):
        return None
    if kind == "late_interaction":
        raise ExportError(
            "texts are put into a chat template (message in modality_config) and embedded token by token, with markers "
            "and limits of queries and documents, which no bundle does; expected texts as they stand. Remove message "
            f"in a copy of {files.settings.file} if the model was trained without it, or run it with "
            "sentence-transformers."
        )
    return read_template(read_chat(files, tokenizer), ("text",))


def _pair_template(
    files: Files, spec: ExportSpec, tokenizer: Any, instruction: str | None
) -> TemplateSpec | None:
    """What CrossEncoder puts a classifier's pairs into: a chat template that shows both sides, where there is one."""
    if not renders_messages(files, tokenizer):
        return None
    chat = read_chat(files, tokenizer)
    if files.modules is None and not shows_pairs(chat):
        return None
    return read_pair_template(chat, spec.instruction or instruction)


def _chat(checkpoint: Checkpoint, files: Files, tokenizer: Any) -> Chat | None:
    template = checkpoint.template or checkpoint.message
    return read_chat(files, tokenizer) if template is not None and template.way == "whole" else None


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


def _stated_max_seq_len(files: Files, spec: ExportSpec, what: What) -> int | None:
    if spec.max_seq_len:
        return spec.max_seq_len
    if isinstance(what, Static):
        return what.max_seq_len
    return files.settings.limit
