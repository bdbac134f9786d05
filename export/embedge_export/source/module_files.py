"""modules.json and the folders it names, read strictly: every key is known, or known to change no number."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import msgspec

from embedge.errors import ExportError
from embedge.types import PoolingMode
from embedge_export.activations import MODULE_ACTIVATIONS
from embedge_export.source.fields import account_for, some_text, some_texts, whole
from embedge_export.source.module_config import ModuleConfig
from embedge_export.source.module_refusals import EXPECTED, FIRST, refuse
from embedge_export.source.modules import (
    EMBEDDING,
    TOKENS,
    Dense,
    First,
    LayerNorm,
    Module,
    Normalize,
    Pooling,
)
from embedge_export.source.repository import inside
from embedge_export.source.settings import TransformerSettings, read_settings
from embedge_export.source.towers import without_routers

_MODES: dict[str, PoolingMode] = {
    "cls": "CLS",
    "max": "MAX",
    "mean": "MEAN",
    "mean_sqrt_len_tokens": "MEAN_SQRT_LEN",
    "weightedmean": "WEIGHTEDMEAN",
    "lasttoken": "LAST",
}
_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_OF_TORCH = ("torch.nn.modules.", "torch.nn.")
_LIBRARIES = ("sentence_transformers.", "pylate.")
_ENTRY_KEYS = ("name", "path", "type")
_ENTRY_IGNORED = {
    "idx": "modules run in the order of the list",
    "kwargs": "names of arguments that callers may pass, which is none",
}
_NAMES = ("module_input_name", "module_output_name")
_SEQUENCE = ("Dense", "Dropout", "LayerNorm", "Normalize", "Pooling")
_CONFIGURED: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "LogitScore": ("logit_score", ("false_token_id", "module_input_name", "true_token_id"), {}),
    "MultiVectorMask": ("mask", ("keep_only_token_ids", "skiplist_tasks", "skiplist_words"), {}),
    "SpladePooling": (
        "splade",
        ("activation_function", "embedding_dimension", "pooling_strategy", "word_embedding_dimension"),
        {"chunk_size": "how many rows are computed at once"},
    ),
}
"""Modules whose configuration others read: the field of Modules that holds it, known keys and ignored ones."""


class Modules(msgspec.Struct, frozen=True, kw_only=True):
    """What modules.json describes.

    Attributes:
        first: kind of the module that turns text into rows.
        folder: where that module lies.
        settings: its sentence_bert_config.json.
        sequence: the modules after it, in the order in which they run.
        splade: configuration of a SpladePooling module.
        logit_score: configuration of a LogitScore module.
        mask: configuration of a MultiVectorMask module.
    """

    first: First
    folder: Path
    settings: TransformerSettings
    sequence: tuple[Module, ...] = ()
    splade: dict[str, Any] | None = None
    logit_score: dict[str, Any] | None = None
    mask: dict[str, Any] | None = None

    @property
    def given(self) -> str:
        """Name of the feature that the first module gives."""
        return TOKENS if self.first == "StaticEmbedding" else self.settings.module_output_name


class _Entry(msgspec.Struct, frozen=True):
    """A line of modules.json: the class's last name, where it comes from, and its folder."""

    kind: str
    library: str
    path: str


def read_modules(
    folder: Path,
    pooling: tuple[PoolingMode, ...] = (),
    *,
    by_token: bool = False,
    tower: str | None = None,
    ignore_keys: Iterable[str] = (),
) -> Modules | None:
    """Read modules.json, or return None where the checkpoint has none.

    Args:
        folder: the checkpoint.
        pooling: modes that the caller wants in place of those that a Pooling module states.
        by_token: a Dense module that names no input reads rows of tokens, as in models of late interaction.
        tower: that of a Router's which stands in its place.
        ignore_keys: keys of the modules' files that the caller wants to be passed over.

    Raises:
        ExportError: a module, key, pooling mode or activation that embedge does not know.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return None
    ignore_keys = tuple(ignore_keys)
    entries = _entries(path, tower, ignore_keys)
    first = entries[0].kind
    if first not in get_args(First):
        raise refuse(first, folder, entries[0].path, first=True)
    first_folder = inside(folder, entries[0].path)
    settings = TransformerSettings()
    if first != "StaticEmbedding":
        task = "fill-mask" if first == "MLMTransformer" else "feature-extraction"
        settings = read_settings(first_folder, task, ignore_keys)
    facts: dict[str, Any] = {"first": first, "folder": first_folder, "settings": settings}
    sequence: list[Module] = []
    for entry in entries[1:]:
        folder_of_module = inside(folder, entry.path)
        config = ModuleConfig(folder_of_module, entry.path, ignore_keys)
        if entry.kind in _CONFIGURED:
            name, known, ignored = _CONFIGURED[entry.kind]
            config.account_for(known, ignored)
            facts[name] = config.stated
        elif entry.kind not in _SEQUENCE:
            raise refuse(entry.kind, folder, entry.path, first=False)
        elif entry.kind != "Dropout":  # which does nothing at inference
            reads = TOKENS if by_token or entry.library == "pylate." else EMBEDDING
            sequence.append(_module(entry.kind, config, folder_of_module, pooling, reads))
    return Modules(**facts, sequence=tuple(sequence))


def _module(
    kind: str, config: ModuleConfig, folder: Path, pooling: tuple[PoolingMode, ...], reads: str
) -> Module:
    """A module of the sequence; `reads` is what a Dense module reads that does not say."""
    match kind:
        case "Pooling":
            return _pooling(config, pooling)
        case "Dense":
            return _dense(config, folder, reads)
        case "Normalize":
            config.account_for(_NAMES)
            return Normalize(**config.names(EMBEDDING))
        case "LayerNorm":
            config.account_for(("dimension",))
            return LayerNorm(folder=folder, size=config.whole("dimension"))
    raise AssertionError(kind)


def activation_name(stated: str) -> str:
    """Class name of an activation that a checkpoint states by its path.

    Raises:
        ExportError: it lies outside of torch.nn.modules, or embedge has no operator for it.
    """
    name = stated.rsplit(".", 1)[-1]
    if not stated.startswith(_OF_TORCH) or name not in MODULE_ACTIVATIONS:
        raise ExportError(
            f"activation {stated!r} is not one that embedge knows; expected torch.nn.modules' "
            f"{', '.join(MODULE_ACTIVATIONS)}. Save the model with one of these, or run it with sentence-transformers"
        )
    return name


def _entries(path: Path, tower: str | None, ignore_keys: tuple[str, ...]) -> list[_Entry]:
    try:
        listed = json.loads(path.read_bytes())
        stated = [(str(each["type"]), str(each["path"]), each.get("name"), each) for each in listed]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"modules.json cannot be understood: {error!r}; expected a list of modules with type and path"
        ) from error
    if not stated:
        raise ExportError(f"modules.json begins with nothing; expected {FIRST}")
    names = [name for _, _, name, _ in stated if name is not None]
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise ExportError(
            f"modules.json names two modules {twice[0]!r}, of which the library runs one; expected different names"
        )
    for _, _, _, each in stated:
        account_for(each, "modules.json", known=_ENTRY_KEYS, ignored=_ENTRY_IGNORED, ignore_keys=ignore_keys)
    return _of_library(without_routers(path.parent, [each[:2] for each in stated], tower, ignore_keys))


def _of_library(stated: list[tuple[str, str]]) -> list[_Entry]:
    entries = []
    for kind, folder in stated:
        library = next((library for library in _LIBRARIES if kind.startswith(library)), None)
        if library is None:
            raise ExportError(
                f"modules.json holds a {kind.rsplit('.', 1)[-1]} module, which embedge does not know: {kind} is the "
                f"checkpoint's own code; expected sentence-transformers' {EXPECTED}. Export the model without "
                "it, and run it after embedding (register_pooling)"
            )
        entries.append(_Entry(kind.rsplit(".", 1)[-1], library, folder))
    return entries


def _pooling(config: ModuleConfig, wanted: tuple[PoolingMode, ...]) -> Pooling:
    stated = config.stated
    others = (key for key in stated if key.startswith("pooling_mode_") and key not in _LEGACY_MODES)
    flags = (*_LEGACY_MODES, *others)
    config.account_for(
        ("embedding_dimension", "include_prompt", "pooling_mode", "word_embedding_dimension", *flags)
    )
    modes = stated.get("pooling_mode")
    if modes is None:
        modes = [_LEGACY_MODES.get(key, key) for key in flags if stated.get(key)]
    elif isinstance(modes, str):
        modes = [modes]
    modes = some_texts(modes, "pooling_mode", config.file)
    unknown = [mode for mode in modes if mode not in _MODES]
    if not wanted and (unknown or not modes):
        raise ExportError(
            f"the Pooling module's mode is {unknown[0] if unknown else 'none'!r}; expected some of "
            f"{', '.join(_MODES)}. Name another with --pooling if that is what you want."
        )
    size = stated.get("embedding_dimension", stated.get("word_embedding_dimension"))
    return Pooling(
        modes=wanted or tuple(_MODES[mode] for mode in modes),
        include_prompt=config.bool("include_prompt", True),
        size=None if size is None else whole(size, "embedding_dimension", config.file),
    )


def _dense(config: ModuleConfig, folder: Path, reads: str) -> Dense:
    stated = config.stated
    config.account_for(
        ("activation_function", "bias", "in_features", "out_features", "use_residual", *_NAMES)
    )
    names = config.names(reads)
    activation = stated.get("activation_function", "torch.nn.modules.activation.Tanh")
    return Dense(
        folder=folder,
        in_features=config.whole("in_features"),
        out_features=config.whole("out_features"),
        bias=config.bool("bias", True),
        activation=activation_name(some_text(activation, "activation_function", config.file)),
        use_residual=config.bool("use_residual", False),
        module_input_name=names["module_input_name"],
        module_output_name=names["module_output_name"],
    )
