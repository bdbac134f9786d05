"""config.json: the network that turns token ids into rows, as transformers understands it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from embedge.errors import ExportError
from embedge_export.families.defaults import DEFAULTS
from embedge_export.families.family import Family
from embedge_export.families.spelling import steady_length
from embedge_export.families.table import check_layers, family_of
from embedge_export.source.config_keys import check_keys, known_keys, refuse_dtypes
from embedge_export.source.config_words import in_old_words
from embedge_export.source.fields import positive, whole
from embedge_export.source.files import CONFIG, Files
from embedge_export.source.libraries import is_light, load_libraries
from embedge_export.source.own_config import read_own_config
from embedge_export.source.remote_code import announce, find_code
from embedge_export.source.repository import NO_CHECKPOINT
from embedge_export.spec import ExportSpec

if TYPE_CHECKING:
    from embedge_export.source.checkpoint import Checkpoint

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class Transformer(msgspec.Struct, frozen=True, kw_only=True):
    """The network; the table of static embeddings counts as one.

    Attributes:
        family: facts about its architecture.
        config: its configuration with defaults filled in; see config_facts.
        model_type, architecture: as its config states them.
        hidden_size: size of its rows.
        vocab_size: rows of the embedding matrix.
        num_attention_heads: heads of a layer; None where the config names none.
        max_positions: longest sequence that the position embeddings were made for; None without a limit.
        code: Python files that loading it runs, by their path in the checkpoint, with their hashes.
        config_words: set on the configuration that transformers reads, as it does not know the checkpoint's own words.
        steady_length: longest text whose positions do not depend on its neighbours; None without such a limit.
    """

    family: Family
    model_type: str
    architecture: str
    hidden_size: int
    vocab_size: int
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    num_attention_heads: int | None = None
    max_positions: int | None = None
    code: dict[str, str] = msgspec.field(default_factory=dict)
    config_words: dict[str, Any] = msgspec.field(default_factory=dict)
    steady_length: int | None = None


def read_transformer(files: Files, spec: ExportSpec) -> Transformer:
    """Read config.json through transformers, which fills in its defaults, or by embedge's own table of them.

    Raises:
        ExportError: it is not there or not understood, it states what is not known, an adapter lies beside it, the
            family is unknown, or its code is not trusted.
        MissingExtraError: it needs torch and transformers, and the export goes without them.
    """
    _refuse_adapters(files)
    check_layers(files.config)
    if not files.config:
        wrong = "states nothing in its" if (files.transformer / CONFIG).is_file() else "has no"
        raise ExportError(f"{files.repository.name} {wrong} config.json; {NO_CHECKPOINT}")
    if not files.config.get("model_type") and "auto_map" not in files.config:
        raise ExportError(
            f"config.json of {files.repository.name} names no model_type; expected an architecture, as in "
            '"model_type": "bert". Pass the checkpoint itself, not a folder within it, or add the line.'
        )
    refuse_dtypes(files.config, spec.ignore_keys)
    light = is_light(spec)
    code = find_code(files.repository, files.transformer, trusted=spec.trust_remote_code or light)
    if light:
        facts = read_own_config(files.config, spec, has_code=bool(code))
        row = DEFAULTS[str(facts["model_type"])]
        return _transformer(files, spec, facts, row.names, f"{row.classes}Model")
    if code:
        announce(files.repository, code)
    config = read_config(files.transformer, bool(code), files.settings.config_kwargs)
    family_of(str(config.model_type), remote=bool(code))
    words = _account_for(files, spec, config)
    if words:
        config = read_config(files.transformer, bool(code), files.settings.config_kwargs, words)
    names = getattr(config, "attribute_map", None) or {}
    made = _transformer(
        files, spec, config_facts(config), names, type(config).__name__.replace("Config", "Model"), bool(code)
    )
    return msgspec.structs.replace(made, code=code, config_words=words)


def _transformer(
    files: Files,
    spec: ExportSpec,
    facts: dict[str, Any],
    names: Mapping[str, str],
    default: str,
    remote: bool = False,
) -> Transformer:
    """What a configuration says; `names` are its own for common keys, `default` is its class where it names none."""

    def value(key: str) -> Any:
        return facts.get(names.get(key, key))

    family = family_of(str(facts["model_type"]), remote=remote)
    return Transformer(
        family=family,
        config=facts,
        model_type=str(facts["model_type"]),
        architecture=str((files.architectures or (default,))[0]),
        max_positions=_max_positions(value("max_position_embeddings"), family, spec),
        hidden_size=whole(value("hidden_size"), "hidden_size", CONFIG),
        num_attention_heads=positive(value("num_attention_heads")),
        vocab_size=whole(value("vocab_size"), "vocab_size", CONFIG),
        steady_length=steady_length(facts),
    )


def _account_for(files: Files, spec: ExportSpec, config: Any) -> dict[str, Any]:
    """Look at every key of config.json, and put into other words what transformers does not know."""
    if not is_of_transformers(config):  # code of the checkpoint's own decides what it reads
        return {}
    stated = {key: value for key, value in files.config.items() if key not in spec.ignore_keys}
    old = in_old_words(stated, known_keys(type(config)))
    check_keys(stated, config, translated=old.translated)
    return old.words


def read_config(
    folder: Path,
    trust_remote_code: bool,
    changes: Mapping[str, Any] | None = None,
    words: Mapping[str, Any] | None = None,
) -> Any:
    """The transformer's configuration with transformers' defaults filled in.

    Args:
        folder: where config.json is.
        trust_remote_code: its code may run.
        changes: what stands in place of what the file states.
        words: set besides what config.json states.

    Raises:
        ExportError: transformers cannot read it.
    """
    load_libraries()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True, **(changes or {})
        )
        for key, value in (words or {}).items():
            setattr(config, key, value)
        return config
    except Exception as error:  # transformers 5 adds huggingface_hub's classes to Python's
        raise ExportError(
            f"transformers cannot read config.json: {first_words(error)}. Check the file and its model_type."
        ) from error


def config_facts(config: Any) -> dict[str, Any]:
    """A configuration as a dict of what its model uses, without what transformers read and does not know.

    transformers 5.24 writes Gemma3's window as it was stated, which the model halves where it looks both ways.
    """
    facts: dict[str, Any] = config.to_dict()
    if "sliding_window" in facts:
        facts["sliding_window"] = config.sliding_window
    if is_of_transformers(config):
        known = known_keys(type(config))
        facts = {key: value for key, value in facts.items() if key in known}
    return facts


def is_of_transformers(config: Any) -> bool:
    """Whether transformers has the architecture; else its code comes with the checkpoint."""
    return type(config).__module__.startswith("transformers.")


def _refuse_adapters(files: Files) -> None:
    for folder in dict.fromkeys((files.transformer, files.repository.folder)):
        for name in ADAPTER_FILES:
            if (folder / name).is_file():
                raise ExportError(
                    f"{files.repository.name} holds an adapter ({name}), which changes the weights of its base model; "
                    "expected weights that it is merged into. Merge it with: "
                    "AutoPeftModel.from_pretrained(MODEL).merge_and_unload().save_pretrained(NEW)"
                )


def check_length(transformer: Transformer, max_seq_len: int) -> None:
    """Refuse texts so long that their numbers would depend on those beside them.

    Raises:
        ExportError: the rotation changes within `max_seq_len`.
    """
    steady = transformer.steady_length
    if steady is not None and max_seq_len > steady:
        raise ExportError(
            f"the rotary positions of {transformer.architecture} change where a text of a batch is longer than "
            f"{steady} tokens, for all texts of the batch; expected a limit below that. "
            f"Pass --max-seq-len {steady} or less."
        )


def read_config_of(checkpoint: Checkpoint, words: Mapping[str, Any] | None = None) -> Any:
    """The configuration of a checkpoint that was read: its settings in place of the file's, in words known here.

    Args:
        checkpoint: where it lies, and what else it states.
        words: set besides.
    """
    return read_config(
        checkpoint.transformer,
        checkpoint.trust_remote_code,
        checkpoint.config_kwargs,
        {**checkpoint.config_words, **(words or {})},
    )


def first_words(error: Exception) -> str:
    """What a library's exception says first."""
    first, *more = (str(error).strip() or type(error).__name__).splitlines()
    # "Validation error for field 'hidden_size':", and in the next line what is wrong with it
    return f"{first} {more[0].strip()}".rstrip(".") if first.endswith(":") and more else first.rstrip(".")


def _max_positions(positions: Any, family: Family, spec: ExportSpec) -> int | None:
    if positions is None or positions == -1:  # which stands for none
        return None
    most = whole(positions, "max_position_embeddings", CONFIG) - family.position_offset
    if family.bounded_positions and (spec.max_seq_len or 0) > most:
        raise ExportError(
            f"max_seq_len={spec.max_seq_len} is more than the {most} tokens that the model has positions for; "
            f"expected at most {most}. Leave out --max-seq-len, or pass a smaller one."
        )
    return most
