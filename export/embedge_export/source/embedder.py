"""Embedding models, dense and sparse: pooling, modules, and the sizes that an embedding may be cut to."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import PoolingSpec, Similarity
from embedge.types import PoolingMode
from embedge_export.source.files import Files
from embedge_export.source.modules import DenseModule
from embedge_export.source.transformer import Transformer
from embedge_export.spec import ExportSpec

_LOG = logging.getLogger(__name__)
_LANGUAGE_MODELS = ("ForMaskedLM", "ForPreTraining", "ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_SIMILARITIES: dict[str, Similarity] = {
    "cosine": "cosine",
    "dot": "dot",
    "dot_product": "dot",
    "euclidean": "euclidean",
    "manhattan": "manhattan",
    "MaxSim": "dot",
}


class Embedder(msgspec.Struct, frozen=True, kw_only=True, tag="embedding"):
    """A transformer, pooling and perhaps Dense modules.

    Attributes:
        pooling, normalize: as in the manifest.
        dense: Dense modules in order.
        assumed: as in the manifest.
    """

    pooling: PoolingSpec
    dense: tuple[DenseModule, ...] = ()
    normalize: bool = True
    assumed: tuple[str, ...] = ()


class Splade(msgspec.Struct, frozen=True, kw_only=True, tag="sparse"):
    """A masked language model whose logits become weights of terms.

    Attributes:
        sums: take the sum over the tokens instead of the maximum.
        twice: apply log1p twice.
    """

    sums: bool = False
    twice: bool = False


def read_embedder(files: Files, spec: ExportSpec, transformer: Transformer) -> Embedder:
    """Read how rows of tokens become one embedding.

    Raises:
        ExportError: no file and no flag says how, or sizes do not chain.
    """
    modules, hidden_size = files.modules, transformer.hidden_size
    modes = spec.pooling or (modules.pooling if modules else ())
    assumed: tuple[str, ...] = ()
    if not modes:
        modes = _default_pooling(transformer)
        assumed = (_assumption(modes),)
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
    return Embedder(
        pooling=PoolingSpec(modes=modes, include_prompt=modules.include_prompt if modules else True),
        dense=dense,
        normalize=normalize if spec.normalize is None else spec.normalize,
        assumed=assumed,
    )


def read_splade(files: Files) -> Splade:
    """Read the SpladePooling module.

    Raises:
        ExportError: it states an option that embedge does not know.
    """
    config = (files.modules.splade if files.modules else None) or {}
    strategy = config.get("pooling_strategy", "max")
    activation = config.get("activation_function", "relu")
    if strategy not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
        raise ExportError(
            f"the SpladePooling module states {strategy!r} and {activation!r}; expected pooling_strategy max or sum, "
            "and activation_function relu or log1p_relu"
        )
    return Splade(sums=strategy == "sum", twice=activation == "log1p_relu")


def read_matryoshka(files: Files, spec: ExportSpec, size: int) -> bool | tuple[int, ...]:
    """Sizes that an embedding of `size` components may be cut to; True for any.

    Raises:
        ExportError: a size does not fit.
    """
    stated = spec.matryoshka
    if stated is None:
        stated = files.config.get("matryoshka_dimensions") or files.config.get("is_matryoshka") or False
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


def read_dimensions(files: Files, size: int) -> int | None:
    """Components that the checkpoint itself cuts to; None where it keeps all.

    Raises:
        ExportError: truncate_dim is no size.
    """
    stated = files.stated.get("truncate_dim")
    if stated is None:
        return None
    if type(stated) is not int or stated < 1:
        raise ExportError(
            f"truncate_dim {stated!r} in config_sentence_transformers.json does not fit; "
            f"expected an int from 1 to the embedding's {size}. Correct it, or remove it."
        )
    return stated if stated < size else None


def read_similarity(files: Files, *, is_sparse: bool) -> Similarity:
    """How the checkpoint compares embeddings; by default sentence-transformers compares sparse ones by dot product.

    Raises:
        ExportError: by a function that embedge does not know.
    """
    stated: Any = files.stated.get("similarity_fn_name")
    if stated is None:
        return "dot" if is_sparse else "cosine"
    if str(stated) not in _SIMILARITIES:
        raise ExportError(
            f"similarity_fn_name {stated!r} is not known; expected one of {', '.join(_SIMILARITIES)}"
        )
    return _SIMILARITIES[str(stated)]


def _assumption(modes: tuple[PoolingMode, ...]) -> str:
    words = (
        f"pooling {', '.join(modes)}: no file of the checkpoint says how tokens become an embedding, and this is what "
        "models of its family are mostly made for; name the right one with --pooling"
    )
    _LOG.warning("WARNING: assumed %s", words)
    return words


def _default_pooling(transformer: Transformer) -> tuple[PoolingMode, ...]:
    """The family's own, of an encoder or decoder without a head; a language model's rows were trained for words."""
    family = transformer.family
    if transformer.architecture.endswith(_LANGUAGE_MODELS):
        raise ExportError(
            f"{transformer.architecture} is a language model, and no file beside it (modules.json) says how its tokens "
            f"become an embedding; expected a checkpoint that says so. {_choices(transformer.architecture)}"
        )
    if family.pooling is None:
        raise ExportError(
            "neither modules.json nor the architecture says how tokens become an embedding; expected a Pooling module. "
            "Pass --pooling MEAN, or what the model's card states."
        )
    return (family.pooling,)


def _choices(architecture: str) -> str:
    choices = ["--pooling MEAN, CLS or LAST for what the model's card states"]
    if architecture.endswith("ForMaskedLM"):
        choices.append("--kind sparse for term weights as SPLADE makes them")
    if architecture.endswith("ForCausalLM"):
        choices.append("--task score for a reranker that answers yes or no")
    return f"Pass {', or '.join(choices)}."
