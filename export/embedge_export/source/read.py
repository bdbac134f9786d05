"""Hugging Face and sentence-transformers files to facts: the only reader of a checkpoint's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from embedge.errors import ExportError
from embedge.manifest import HeadSpec, PoolingSpec, Similarity
from embedge.types import PoolingMode, Task
from embedge_export.families.family import Family
from embedge_export.families.table import STATIC, family_of
from embedge_export.source.causal_reranker import COLBERT_METADATA, read_late_settings, read_score_tokens
from embedge_export.source.checkpoint import Checkpoint, Kind
from embedge_export.source.checksums import hash_settings, hash_weights
from embedge_export.source.classifier import read_head, score_activation
from embedge_export.source.fields import some_object, some_text, some_texts, texts_by_name, whole
from embedge_export.source.libraries import load_libraries
from embedge_export.source.modules import DenseModule, Modules, read_modules
from embedge_export.source.remote_code import announce, find_code
from embedge_export.source.repository import Repository, open_repository, read_json, weight_files
from embedge_export.spec import ExportSpec

_SIMILARITIES = {
    "cosine": "cosine",
    "dot": "dot",
    "dot_product": "dot",
    "euclidean": "euclidean",
    "manhattan": "manhattan",
    "MaxSim": "dot",
}
_TASKS: dict[Kind, tuple[Task, ...]] = {
    "embedding": ("embed", "token_embed"),
    "late_interaction": ("token_embed",),
    "sparse": ("embed",),
    "static": ("embed", "token_embed"),
    "classifier": ("classify",),
    "token_classifier": ("token_classify",),
    "reward": ("token_classify",),
    "causal_reranker": ("score",),
}
_CONFIG = "config.json"
_STATED = "config_sentence_transformers.json"
_MODEL2VEC_MAX_SEQ_LEN = 512


def read_checkpoint(spec: ExportSpec) -> Checkpoint:
    """Read everything that an export needs to know, and refuse what cannot be exported.

    Raises:
        ExportError: the checkpoint is unsafe, incomplete, contradictory or of a kind that embedge does not know.
    """
    repository = open_repository(spec)
    settings = hash_settings(repository.folder)
    modules = read_modules(repository.folder, spec.pooling)
    stated = read_json(repository.folder, _STATED)
    transformer = modules.folder if modules else repository.folder
    raw = read_json(transformer, "config.json")
    kind = _kind(spec, modules, raw, stated, repository.folder)
    if kind == "static":
        checkpoint = _read_static(spec, repository, modules, raw)
    else:
        checkpoint = _read_transformer(spec, repository, modules, raw, stated, kind)
    checkpoint = msgspec.structs.replace(
        checkpoint,
        prompts={**texts_by_name(stated.get("prompts") or {}, "prompts", _STATED), **spec.prompts},
        default_prompt_name=spec.default_prompt_name or _optional_text(stated, "default_prompt_name"),
        similarity=_similarity(stated.get("similarity_fn_name")),
        settings=settings,
    )
    _check_task(spec, checkpoint)
    _check_prompts(checkpoint)
    size = checkpoint.embedding_size
    if size is None:
        return checkpoint
    matryoshka = _matryoshka(spec, raw, size)
    dimensions = None if checkpoint.sparse else _dimensions(stated.get("truncate_dim"), size)
    if dimensions is not None and matryoshka is not True:
        # the checkpoint itself cuts, so it was made for that; whoever wants all components may ask for them
        matryoshka = tuple(sorted({*(matryoshka or ()), dimensions, size}))
    return msgspec.structs.replace(checkpoint, matryoshka=matryoshka, dimensions=dimensions)


def _kind(
    spec: ExportSpec, modules: Modules | None, raw: dict[str, Any], stated: dict[str, Any], folder: Path
) -> Kind:
    architecture = (_architectures(raw) or ("",))[0]
    task = str(modules.settings.get("transformer_task", "")) if modules else ""
    if (modules and modules.first == "StaticEmbedding") or raw.get("model_type") == "model2vec":
        return "static"
    if modules and modules.splade is not None:
        return "sparse"
    if (
        (modules and modules.logit_score is not None)
        or spec.yes_token
        or (spec.task == "score" and "CausalLM" in architecture)
    ):
        return "causal_reranker"
    if (folder / COLBERT_METADATA).is_file() or (
        modules and not modules.pooling and _is_late(modules, stated)
    ):
        return "late_interaction"
    if spec.task in ("embed", "token_embed"):
        return "embedding"
    if task == "sequence-classification" or (
        architecture.endswith("ForSequenceClassification") and not modules
    ):
        return "classifier"
    if architecture.endswith("ForTokenClassification") and not modules:
        return "reward" if spec.step_tag or spec.pooling == ("STEP",) else "token_classifier"
    return "embedding"


def _is_late(modules: Modules, stated: dict[str, Any]) -> bool:
    return (
        "query_length" in stated or stated.get("similarity_fn_name") == "MaxSim" or bool(modules.token_dense)
    )


def _read_transformer(
    spec: ExportSpec,
    repository: Repository,
    modules: Modules | None,
    raw: dict[str, Any],
    stated: dict[str, Any],
    kind: Kind,
) -> Checkpoint:
    transformer = modules.folder if modules else repository.folder
    if not raw:
        raise ExportError(
            f"{repository.name} has no config.json; expected a Hugging Face checkpoint. "
            "Pass the folder that save_pretrained wrote."
        )
    code = find_code(repository, transformer, trusted=spec.trust_remote_code)
    if code:
        announce(repository, code)
    config = read_config(transformer, bool(code))
    family = family_of(str(config.model_type), remote=bool(code))
    architectures = _architectures(raw) or (type(config).__name__.replace("Config", "Model"),)
    positions = getattr(config, "max_position_embeddings", None)
    max_positions = None
    if positions is not None and positions != -1:  # which stands for none
        max_positions = whole(positions, "max_position_embeddings", _CONFIG) - family.position_offset
    if family.bounded_positions and max_positions is not None and (spec.max_seq_len or 0) > max_positions:
        raise ExportError(
            f"max_seq_len={spec.max_seq_len} is more than the {max_positions} tokens that the model has positions for; "
            f"expected at most {max_positions}. Leave out --max-seq-len, or pass a smaller one."
        )
    settings = modules.settings if modules else {}
    hidden_size = whole(getattr(config, "hidden_size", None), "hidden_size", _CONFIG)
    facts: dict[str, Any] = {"dense": ()}
    if kind == "embedding":
        facts |= _embedding_facts(spec, modules, family, hidden_size)
    elif kind == "late_interaction":
        facts |= _late_facts(repository.folder, modules, raw, stated, hidden_size)
    elif kind == "sparse" and modules and modules.splade is not None:
        facts |= _splade_facts(modules.splade)
    elif kind == "causal_reranker":
        activation = score_activation(raw, stated) or "sigmoid"
        facts["head"] = HeadSpec(labels=("relevance",), activation=activation, score_activation=activation)
        facts["score_tokens"] = read_score_tokens(spec, modules)
        options = some_object(
            settings.get("processing_kwargs"), "processing_kwargs", "sentence_bert_config.json"
        )
        facts["template_options"] = some_object(
            options.get("chat_template"), "chat_template", "sentence_bert_config.json"
        )
    else:
        facts["head"] = read_head(spec, raw, stated)
        if kind == "reward":
            facts |= {"pooling": PoolingSpec(modes=("STEP",)), "step_tag": spec.step_tag}
        elif kind == "token_classifier":
            facts["pooling"] = PoolingSpec(modes=("ALL",))
    tasks = _TASKS[kind]
    if kind == "classifier" and len(facts["head"].labels) == 1:
        tasks = ("score", "classify")
    if spec.task in tasks:
        tasks = (spec.task, *(task for task in tasks if task != spec.task))
    folders = [transformer, *(module.folder for module in facts["dense"])]
    return Checkpoint(
        repository=repository,
        transformer=transformer,
        kind=kind,
        family=family,
        model_type=str(config.model_type),
        architecture=str(architectures[0]),
        tasks=tasks,
        hidden_size=hidden_size,
        num_attention_heads=_positive(getattr(config, "num_attention_heads", None)),
        vocab_size=whole(getattr(config, "vocab_size", None), "vocab_size", _CONFIG),
        max_positions=max_positions,
        stated_max_seq_len=spec.max_seq_len or _positive(settings.get("max_seq_length")),
        lowercase=bool(settings.get("do_lower_case", False)),
        weights=hash_weights(
            repository.folder, list(dict.fromkeys(folders)), optional=spec.from_onnx is not None
        ),
        code=code,
        **facts,
    )


def _read_static(
    spec: ExportSpec, repository: Repository, modules: Modules | None, raw: dict[str, Any]
) -> Checkpoint:
    from safetensors import safe_open

    folder = modules.folder if modules else repository.folder
    weights = hash_weights(repository.folder, [folder])
    with safe_open(weight_files(folder)[0], framework="np") as tensors:
        shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    table = shapes.get("embedding.weight") or shapes.get("embeddings")
    if table is None or len(table) != 2:
        raise ExportError(
            f"the static embedding's weights hold {', '.join(shapes) or 'nothing'}; "
            "expected a table named embedding.weight or embeddings"
        )
    # sentence-transformers reads model2vec's plain tables as its own, unknown tokens and all; no others
    is_st_table = modules is not None and not {"mapping", "weights"} & shapes.keys()
    vocab_size = shapes["mapping"][0] if "mapping" in shapes else table[0]
    normalize = modules.normalize if modules else bool(raw.get("normalize", False))
    return Checkpoint(
        repository=repository,
        transformer=folder,
        kind="static",
        family=STATIC,
        model_type="static" if is_st_table else "model2vec",
        architecture="StaticEmbedding" if modules else "StaticModel",
        tasks=_TASKS["static"],
        hidden_size=table[1],
        vocab_size=vocab_size,
        stated_max_seq_len=spec.max_seq_len or (None if is_st_table else _MODEL2VEC_MAX_SEQ_LEN),
        weights=weights,
        pooling=PoolingSpec(modes=("MEAN",)),
        normalize=normalize if spec.normalize is None else spec.normalize,
    )


def read_config(folder: Path, trust_remote_code: bool) -> Any:
    """The transformer's configuration with transformers' defaults filled in.

    Raises:
        ExportError: transformers cannot read it.
    """
    load_libraries()
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (ValueError, KeyError, OSError, TypeError, AttributeError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ExportError(
            f"transformers cannot read config.json: {reason}. Check the file and its model_type."
        ) from error


def _embedding_facts(
    spec: ExportSpec, modules: Modules | None, family: Family, hidden_size: int
) -> dict[str, Any]:
    modes = spec.pooling or (modules.pooling if modules else ()) or _default_pooling(family)
    if {"ALL", "STEP"} & set(modes):
        raise ExportError(f"pooling {', '.join(modes)} gives no embedding; expected modes that give one row")
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
    return {
        "pooling": PoolingSpec(modes=modes, include_prompt=modules.include_prompt if modules else True),
        "dense": dense,
        "normalize": normalize if spec.normalize is None else spec.normalize,
    }


def _default_pooling(family: Family) -> tuple[PoolingMode, ...]:
    if family.pooling is None:
        raise ExportError(
            "neither modules.json nor the architecture says how tokens become an embedding; expected a Pooling module. "
            "Pass --pooling MEAN, or what the model's card states."
        )
    return (family.pooling,)


def _late_facts(
    folder: Path, modules: Modules | None, raw: dict[str, Any], stated: dict[str, Any], hidden_size: int
) -> dict[str, Any]:
    dense = modules.dense if modules else ()
    metadata = read_json(folder, COLBERT_METADATA)
    if metadata and not modules:
        size = whole(metadata.get("dim", raw.get("dim", 128)), "dim", COLBERT_METADATA)
        dense = (
            DenseModule(
                folder=folder, in_features=hidden_size, out_features=size, bias=False, activation="Identity"
            ),
        )
    if dense and dense[0].in_features != hidden_size:
        raise ExportError(
            f"{dense[0].folder.name} takes {dense[0].in_features} features, the transformer gives {hidden_size}; "
            "expected equal sizes."
        )
    return {
        "pooling": PoolingSpec(modes=("ALL",)),
        "dense": dense,
        "normalize": True,
        "late": read_late_settings(folder, stated),
    }


def _splade_facts(config: dict[str, Any]) -> dict[str, Any]:
    strategy = config.get("pooling_strategy", "max")
    activation = config.get("activation_function", "relu")
    if strategy not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
        raise ExportError(
            f"the SpladePooling module states {strategy!r} and {activation!r}; expected pooling_strategy max or sum, "
            "and activation_function relu or log1p_relu"
        )
    return {"splade_sum": strategy == "sum", "splade_twice": activation == "log1p_relu"}


def _matryoshka(spec: ExportSpec, raw: dict[str, Any], size: int) -> bool | tuple[int, ...]:
    stated = spec.matryoshka
    if stated is None:
        stated = raw.get("matryoshka_dimensions") or raw.get("is_matryoshka") or False
    if isinstance(stated, bool):
        return stated
    sizes = tuple(stated) if isinstance(stated, (list, tuple)) else (stated,)
    wrong = [value for value in sizes if not isinstance(value, int) or not 1 <= value <= size]
    if wrong or not sizes:
        what = repr(wrong[0]) if wrong else "list is empty"
        raise ExportError(
            f"Matryoshka size {what} does not fit; expected sizes from 1 to the "
            f"embedding's {size}. Correct --matryoshka or matryoshka_dimensions in config.json."
        )
    return tuple(sorted(set(sizes)))


def _dimensions(truncate_dim: Any, size: int) -> int | None:
    if truncate_dim is None:
        return None
    if type(truncate_dim) is not int or truncate_dim < 1:
        raise ExportError(
            f"truncate_dim {truncate_dim!r} in config_sentence_transformers.json does not fit; "
            f"expected an int from 1 to the embedding's {size}. Correct it, or remove it."
        )
    return truncate_dim if truncate_dim < size else None


def _similarity(stated: Any) -> Similarity:
    if stated is None:
        return "cosine"
    if str(stated) not in _SIMILARITIES:
        raise ExportError(
            f"similarity_fn_name {stated!r} is not known; expected one of {', '.join(_SIMILARITIES)}"
        )
    return cast("Similarity", _SIMILARITIES[str(stated)])


def _check_task(spec: ExportSpec, checkpoint: Checkpoint) -> None:
    if spec.task is not None and spec.task not in checkpoint.tasks:
        raise ExportError(
            f"task {spec.task!r} does not fit {checkpoint.architecture}, which is for {', '.join(checkpoint.tasks)}; "
            "expected one of these. Leave out --task."
        )


def _check_prompts(checkpoint: Checkpoint) -> None:
    name = checkpoint.default_prompt_name
    if name is not None and name not in checkpoint.prompts:
        raise ExportError(
            f"default_prompt_name {name!r} is not among the stored prompts; "
            f"expected one of {', '.join(checkpoint.prompts) or 'none: there are no prompts'}"
        )


def _architectures(raw: dict[str, Any]) -> tuple[str, ...]:
    return some_texts(raw.get("architectures") or [], "architectures", _CONFIG)


def _optional_text(stated: dict[str, Any], name: str) -> str | None:
    value = stated.get(name)
    return None if value is None else some_text(value, name, _STATED)


def _positive(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and value > 0 else None
