"""Embedding models, dense and sparse: pooling, modules, and the sizes that an embedding may be cut to."""

from __future__ import annotations

import logging
from typing import cast, get_args

import msgspec

from embedge.errors import ExportError
from embedge.manifest import PoolingSpec, Similarity
from embedge.types import PoolingMode
from embedge_export.source.files import Files
from embedge_export.source.modules import (
    EMBEDDING,
    TOKENS,
    Chain,
    Dense,
    Module,
    Pooling,
    chain_to,
    pooling_of,
    row_size,
    with_pooling,
    without_last_normalize,
)
from embedge_export.source.settings import LAST_HIDDEN_STATE, POOLER_OUTPUT
from embedge_export.source.transformer import Transformer
from embedge_export.spec import ExportSpec

_LOG = logging.getLogger(__name__)
_LANGUAGE_MODELS = ("ForMaskedLM", "ForPreTraining", "ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_POOLERS = {
    "albert": ("pooler.weight", "pooler.bias"),
    **dict.fromkeys(
        ("bert", "camembert", "mpnet", "roberta", "xlm-roberta"), ("pooler.dense.weight", "pooler.dense.bias")
    ),
}
"""Weights of the layer that makes a family's pooler_output of the first token, before a tanh."""


class Embedder(msgspec.Struct, frozen=True, kw_only=True, tag="embedding"):
    """A transformer, pooling and what else modules.json puts around it.

    Attributes:
        rows: modules that make the embedding of the hidden states, up to the Normalize that `normalize` stands for.
        tokens: those that make the rows of token_embed.
        normalize, assumed: as in the manifest.
    """

    rows: Chain
    tokens: Chain = ()
    normalize: bool = True
    assumed: tuple[str, ...] = ()

    @property
    def pooling(self) -> PoolingSpec:
        """As in the manifest."""
        pooling = pooling_of(self.rows)
        assert pooling is not None
        return PoolingSpec(modes=pooling.modes, include_prompt=pooling.include_prompt)


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
    modules = files.modules
    assumed: tuple[str, ...] = ()
    if modules is None:
        modes = spec.pooling
        if not modes:
            modes = _default_pooling(transformer)
            assumed = (_assumption(modes),)
        rows: Chain = (Pooling(modes=modes),)
        tokens: Chain = ()
        normalize = True
    else:
        sequence, given = sequence_of(files, transformer)
        if spec.pooling:
            sequence = with_pooling(sequence, spec.pooling)
        made = chain_to(EMBEDDING, sequence, given)
        if made is None or pooling_of(made) is None:
            raise ExportError(
                "modules.json has no Pooling module, and nothing else gives a sentence_embedding; expected one. "
                "Pass --pooling MEAN, or what the model's card states."
            )
        rows, normalize = without_last_normalize(made)
        tokens = chain_to(TOKENS, sequence, given) or ()
    pooling = pooling_of(rows)
    assert pooling is not None
    if {"ALL", "STEP"} & set(pooling.modes):
        raise ExportError(
            f"pooling {', '.join(pooling.modes)} gives no embedding; expected modes that give one row"
        )
    if pooling_of(tokens) is not None:
        raise ExportError(
            "modules.json ends with token_embeddings that were pooled; expected one row for each token. "
            "Save the model without the modules that pool them, or run it with sentence-transformers."
        )
    row_size(rows, transformer.hidden_size)
    row_size(tokens, transformer.hidden_size)
    return Embedder(
        rows=rows,
        tokens=tokens,
        normalize=normalize if spec.normalize is None else spec.normalize,
        assumed=assumed,
    )


def sequence_of(files: Files, transformer: Transformer) -> tuple[tuple[Module, ...], str]:
    """The modules after the transformer; a pooler that its settings ask for is written as modules.

    Returns:
        The modules, and the name of the hidden states that they are given.

    Raises:
        ExportError: the architecture's pooler is not known.
    """
    modules = files.modules
    assert modules is not None
    if modules.settings.method_output_name != POOLER_OUTPUT:
        # a head's logits are not what an embedding is made of, should the caller want one
        gives_hidden = modules.settings.method_output_name == LAST_HIDDEN_STATE
        return modules.sequence, modules.given if gives_hidden else TOKENS
    names = _POOLERS.get(transformer.model_type)
    given, size = modules.settings.module_output_name, transformer.hidden_size
    if names is None:
        raise ExportError(
            f"{modules.settings.file} takes the pooler_output of a {transformer.model_type} model; embedge knows that "
            f"of {', '.join(_POOLERS)}. Run the model with sentence-transformers, or state last_hidden_state in a copy "
            "of the checkpoint if its numbers are what you want."
        )
    if given == TOKENS:
        raise ExportError(
            f"{modules.settings.file} calls the pooler_output token_embeddings, and there is one row for each text; "
            "expected module_output_name sentence_embedding. Restore the file from the model's origin."
        )
    pooler = Dense(
        folder=modules.folder,
        in_features=size,
        out_features=size,
        bias=True,
        activation="Tanh",
        module_input_name=given,
        module_output_name=given,
        weight_names=names,
    )
    return (Pooling(modes=("CLS",), module_output_name=given), pooler, *modules.sequence), TOKENS


def read_splade(files: Files) -> Splade:
    """Read the SpladePooling module.

    Raises:
        ExportError: it states an option that embedge does not know, or other modules stand beside it.
    """
    if files.modules and files.modules.sequence:
        other = type(files.modules.sequence[0]).__name__
        raise ExportError(
            f"modules.json has a {other} module beside SpladePooling; expected SpladePooling alone. "
            "Save the model without it, or run it with sentence-transformers."
        )
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
    """Components that the checkpoint itself cuts to; None where it keeps all."""
    stated: int | None = files.stated.get("truncate_dim")
    return stated if stated is not None and stated < size else None


def read_similarity(files: Files, *, is_sparse: bool, by_token: bool) -> Similarity:
    """How the checkpoint compares embeddings: by cosine where it does not say, sparse ones by dot product.

    Raises:
        ExportError: by a function that embedge does not know for its kind.
    """
    stated: str | None = files.stated.get("similarity_fn_name")
    if by_token:
        if stated == "meanmaxsim":
            raise ExportError(
                "similarity_fn_name 'meanmaxsim' divides MaxSim by the query's tokens, which is not exported; "
                "expected maxsim. Set it where the order of one query's documents is all that matters."
            )
        return "dot"  # whatever else is stated, the library takes MaxSim
    if stated is None:
        return "dot" if is_sparse else "cosine"
    known = get_args(Similarity)
    if stated not in known:
        raise ExportError(
            f"similarity_fn_name {stated!r} is not known for a model of one row for each text; "
            f"expected one of {', '.join(known)}. Correct config_sentence_transformers.json."
        )
    return cast("Similarity", stated)


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
