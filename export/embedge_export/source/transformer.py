"""config.json: the network that turns token ids into rows, as transformers understands it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge_export.families.family import Family
from embedge_export.families.table import family_of
from embedge_export.source.fields import positive, whole
from embedge_export.source.files import CONFIG, Files
from embedge_export.source.libraries import load_libraries
from embedge_export.source.remote_code import announce, find_code
from embedge_export.spec import ExportSpec


class Transformer(msgspec.Struct, frozen=True, kw_only=True):
    """The network; the table of static embeddings counts as one.

    Attributes:
        family: facts about its architecture.
        model_type, architecture: as its config states them.
        hidden_size: size of its rows.
        vocab_size: rows of the embedding matrix.
        num_attention_heads: heads of a layer; None where the config names none.
        max_positions: longest sequence that the position embeddings were made for; None without a limit.
        code: Python files that loading it runs, by their path in the checkpoint, with their hashes.
    """

    family: Family
    model_type: str
    architecture: str
    hidden_size: int
    vocab_size: int
    num_attention_heads: int | None = None
    max_positions: int | None = None
    code: dict[str, str] = msgspec.field(default_factory=dict)


def read_transformer(files: Files, spec: ExportSpec) -> Transformer:
    """Read config.json through transformers, which fills in its defaults.

    Raises:
        ExportError: it is not there or not understood, the family is unknown, or its code is not trusted.
    """
    if not files.config:
        raise ExportError(
            f"{files.repository.name} has no config.json; expected a Hugging Face checkpoint. "
            "Pass the folder that save_pretrained wrote."
        )
    code = find_code(files.repository, files.transformer, trusted=spec.trust_remote_code)
    if code:
        announce(files.repository, code)
    config = read_config(files.transformer, bool(code), files.settings.config_kwargs)
    family = family_of(str(config.model_type), remote=bool(code))
    architectures = files.architectures or (type(config).__name__.replace("Config", "Model"),)
    return Transformer(
        family=family,
        model_type=str(config.model_type),
        architecture=str(architectures[0]),
        max_positions=_max_positions(config, family, spec),
        hidden_size=whole(getattr(config, "hidden_size", None), "hidden_size", CONFIG),
        num_attention_heads=positive(getattr(config, "num_attention_heads", None)),
        vocab_size=whole(getattr(config, "vocab_size", None), "vocab_size", CONFIG),
        code=code,
    )


def read_config(folder: Path, trust_remote_code: bool, changes: dict[str, Any]) -> Any:
    """The transformer's configuration with transformers' defaults filled in.

    Args:
        folder: where config.json lies.
        trust_remote_code: code of the checkpoint may run.
        changes: what stands in place of what the file states.

    Raises:
        ExportError: transformers cannot read it.
    """
    load_libraries()
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True, **changes
        )
    except (ValueError, KeyError, OSError, TypeError, AttributeError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ExportError(
            f"transformers cannot read config.json: {reason}. Check the file and its model_type."
        ) from error


def _max_positions(config: Any, family: Family, spec: ExportSpec) -> int | None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions == -1:  # which stands for none
        return None
    most = whole(positions, "max_position_embeddings", CONFIG) - family.position_offset
    if family.bounded_positions and (spec.max_seq_len or 0) > most:
        raise ExportError(
            f"max_seq_len={spec.max_seq_len} is more than the {most} tokens that the model has positions for; "
            f"expected at most {most}. Leave out --max-seq-len, or pass a smaller one."
        )
    return most
