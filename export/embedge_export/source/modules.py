"""modules.json and the folders it names: what sentence-transformers puts after the transformer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from embedge.errors import ExportError
from embedge.types import PoolingMode
from embedge_export.source.fields import some_texts, whole
from embedge_export.source.repository import inside, read_json

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
ACTIVATIONS = (
    "ELU",
    "GELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "ReLU",
    "ReLU6",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
)
"""Classes of torch.nn without parameters that a Dense module may end in; graph/pooling_nodes.py has each as nodes."""
_ACTIVATION_MODULES = ("torch.nn.modules.", "torch.nn.")
_BERT_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

First = Literal["Transformer", "MLMTransformer", "StaticEmbedding"]


class DenseModule(msgspec.Struct, frozen=True, kw_only=True):
    """A Dense module of the checkpoint.

    Attributes:
        folder: where its weights lie.
        in_features, out_features, bias: its shape.
        activation: class name in torch.nn.modules.
    """

    folder: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str


class Modules(msgspec.Struct, frozen=True, kw_only=True):
    """What modules.json describes.

    Attributes:
        first: kind of the module that turns text into rows.
        folder: where that module lies.
        settings: its sentence_bert_config.json.
        pooling: modes in the order of concatenation; empty without a Pooling module.
        pooling_size: row size that the Pooling module expects.
        include_prompt: False leaves a stored prompt out of the pooling.
        dense: Dense modules in order.
        token_dense: they apply to token rows, not to the pooled row.
        normalize: a Normalize module follows.
        splade: configuration of a SpladePooling module.
        logit_score: configuration of a LogitScore module.
    """

    first: First
    folder: Path
    settings: dict[str, Any]
    pooling: tuple[PoolingMode, ...] = ()
    pooling_size: int | None = None
    include_prompt: bool = True
    dense: tuple[DenseModule, ...] = ()
    token_dense: bool = False
    normalize: bool = False
    splade: dict[str, Any] | None = None
    logit_score: dict[str, Any] | None = None


def read_modules(folder: Path, pooling: tuple[PoolingMode, ...] = ()) -> Modules | None:
    """Read modules.json, or return None where the checkpoint has none.

    Args:
        folder: the checkpoint.
        pooling: modes that the caller wants in place of those that the Pooling module states.

    Raises:
        ExportError: a module, pooling mode or activation that embedge does not know, or sizes that do not chain.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_bytes())
        listed = [(str(entry["type"]).rsplit(".", 1)[-1], str(entry["path"])) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"modules.json cannot be understood: {error!r}; expected a list of modules with type and path"
        ) from error
    if not listed or listed[0][0] not in ("Transformer", "MLMTransformer", "StaticEmbedding"):
        raise ExportError(
            f"modules.json begins with {listed[0][0] if listed else 'nothing'}; "
            "expected a Transformer, MLMTransformer or StaticEmbedding module first"
        )
    first, first_path = listed[0]
    first_folder = inside(folder, first_path)
    facts: dict[str, Any] = {"first": first, "folder": first_folder, "settings": _settings(first_folder)}
    dense: list[DenseModule] = []
    for kind, module_path in listed[1:]:
        module = inside(folder, module_path)
        if kind == "Pooling":
            facts |= _pooling(read_json(module, "config.json"), pooling)
        elif kind == "Dense":
            dense.append(_dense(module, module_path))
            facts["token_dense"] = _is_token_dense(module)
        elif kind == "Normalize":
            facts["normalize"] = True
        elif kind == "SpladePooling":
            facts["splade"] = read_json(module, "config.json")
        elif kind == "LogitScore":
            facts["logit_score"] = read_json(module, "config.json")
        elif kind != "Dropout":  # which does nothing at inference
            raise ExportError(
                f"modules.json holds a {kind} module, which embedge does not know; expected Transformer, Pooling, "
                "Dense, Normalize, Dropout, SpladePooling, LogitScore or StaticEmbedding"
            )
    _check_chain(facts, dense)
    return Modules(**facts, dense=tuple(dense))


def activation_name(stated: str) -> str:
    """Class name of an activation that a checkpoint states by its path.

    Raises:
        ExportError: it lies outside of torch.nn.modules, or embedge has no operator for it.
    """
    name = stated.rsplit(".", 1)[-1]
    if not stated.startswith(_ACTIVATION_MODULES) or name not in ACTIVATIONS:
        raise ExportError(
            f"activation {stated!r} is not one that embedge knows; expected torch.nn.modules' "
            f"{', '.join(ACTIVATIONS)}"
        )
    return name


def _settings(folder: Path) -> dict[str, Any]:
    for name in _BERT_CONFIGS:
        settings = read_json(folder, name)
        if settings:
            return settings
    return {}


def _pooling(config: dict[str, Any], wanted: tuple[PoolingMode, ...]) -> dict[str, Any]:
    stated = config.get("pooling_mode")
    if stated is None:
        stated = [mode for key, mode in _LEGACY_MODES.items() if config.get(key)]
        flags = {key for key, on in config.items() if key.startswith("pooling_mode_") and on}
        unknown = sorted(flags - set(_LEGACY_MODES))
    else:
        file = "the Pooling module's config.json"
        stated = [stated] if isinstance(stated, str) else list(some_texts(stated, "pooling_mode", file))
        unknown = [mode for mode in stated if mode not in _MODES]
    if not wanted and (unknown or not stated):
        raise ExportError(
            f"the Pooling module's mode is {unknown[0] if unknown else 'none'!r}; expected some of "
            f"{', '.join(_MODES)}. Name another with --pooling if that is what you want."
        )
    size = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    if size is not None:
        size = whole(size, "embedding_dimension", "the Pooling module's config.json")
    return {
        "pooling": wanted or tuple(_MODES[mode] for mode in stated),
        "pooling_size": size,
        "include_prompt": bool(config.get("include_prompt", True)),
    }


def _dense(folder: Path, path: str) -> DenseModule:
    config = read_json(folder, "config.json")
    if config.get("use_residual"):
        raise ExportError(
            f"{path}/config.json states use_residual, a Dense module that adds its input to its output, which is not "
            "exported yet; expected a plain Dense module. Please report this with the model's name."
        )
    try:
        return DenseModule(
            folder=folder,
            in_features=whole(config["in_features"], "in_features", f"{path}/config.json"),
            out_features=whole(config["out_features"], "out_features", f"{path}/config.json"),
            bias=bool(config.get("bias", True)),
            activation=activation_name(
                str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
            ),
        )
    except KeyError as error:
        raise ExportError(
            f"{path}/config.json does not state {error}; expected the sizes of a Dense module"
        ) from error


def _is_token_dense(folder: Path) -> bool:
    return read_json(folder, "config.json").get("module_input_name") == "token_embeddings"


def _check_chain(facts: dict[str, Any], dense: list[DenseModule]) -> None:
    size = facts.get("pooling_size")
    width = size * len(facts["pooling"]) if size else None
    for module in dense:
        if width is not None and module.in_features != width:
            raise ExportError(
                f"{module.folder.name} takes {module.in_features} features, but the module before it gives {width}; "
                "expected sizes that chain. Restore the config.json of both from the model's origin."
            )
        width = module.out_features
