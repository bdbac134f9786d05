"""What sentence-transformers puts after the transformer: a sequence of modules, each reading and writing a feature.

A feature is a value with a name, such as token_embeddings or sentence_embedding. Every module that is known here reads
one feature and writes one, so what a feature is at the end is one chain of modules, and a module whose output nobody
reads is in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from embedge.errors import ExportError
from embedge.types import PoolingMode

TOKENS = "token_embeddings"
EMBEDDING = "sentence_embedding"
SCORES = "scores"

First: TypeAlias = Literal["Transformer", "MLMTransformer", "StaticEmbedding"]


class Pooling(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Rows of tokens to one row.

    Attributes:
        modes: in the order of concatenation.
        include_prompt: False leaves a stored prompt out.
        size: row size that it states; None where it states none.
    """

    modes: tuple[PoolingMode, ...]
    include_prompt: bool = True
    size: int | None = None
    module_input_name: str = TOKENS
    module_output_name: str = EMBEDDING


class Dense(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A linear layer and an activation.

    Attributes:
        folder: where its weights lie.
        in_features, out_features, bias: its shape.
        activation: class name in torch.nn.modules.
        use_residual: its input is added to its output, through weights of their own where the sizes differ.
        weight_names: of weight and bias in the files, as they end there.
    """

    folder: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str
    use_residual: bool = False
    module_input_name: str = EMBEDDING
    module_output_name: str = EMBEDDING
    weight_names: tuple[str, str] = ("linear.weight", "linear.bias")

    @property
    def has_residual_weight(self) -> bool:
        """Whether its input goes through a second layer before it is added."""
        return self.use_residual and self.in_features != self.out_features


class Normalize(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Rows to unit length."""

    module_input_name: str = EMBEDDING
    module_output_name: str = EMBEDDING


class LayerNorm(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Mean 0 and variance 1 for each row, then a scale and a shift for each component.

    Attributes:
        folder: where its weights lie.
        size: of its rows.
    """

    folder: Path
    size: int
    module_input_name: str = EMBEDDING
    module_output_name: str = EMBEDDING


Module: TypeAlias = Pooling | Dense | Normalize | LayerNorm
Weighted: TypeAlias = Dense | LayerNorm
Chain: TypeAlias = tuple[Module, ...]
"""Modules of which each reads what the one before it writes."""


def chain_to(feature: str, modules: Iterable[Module], given: str = TOKENS) -> Chain | None:
    """The modules that make a feature what it is after all of them.

    Args:
        feature: its name.
        modules: in the order in which they run.
        given: name of the only feature that is there before them.

    Returns:
        They, in order; None where nothing gives the feature.

    Raises:
        ExportError: a module reads what none before it gives, or a row is pooled again.
    """
    made: dict[str, Chain] = {given: ()}
    for module in modules:
        source = made.get(module.module_input_name)
        if source is None:
            if isinstance(module, Normalize):  # which the library passes over
                continue
            raise ExportError(
                f"modules.json: a {type(module).__name__} module reads {module.module_input_name!r}, which no module "
                f"before it gives; expected {', '.join(made)}. Restore its config.json from the model's origin."
            )
        if isinstance(module, Pooling) and any(isinstance(before, Pooling) for before in source):
            raise ExportError(
                "modules.json: a Pooling module reads a row that was pooled already; expected rows of tokens. "
                "Restore the modules' config.json from the model's origin."
            )
        made[module.module_output_name] = (*source, module)
    return made.get(feature)


def with_pooling(modules: Sequence[Module], modes: tuple[PoolingMode, ...]) -> tuple[Module, ...]:
    """Modules that pool by other modes; a Pooling module is put at the end where there is none."""
    if not any(isinstance(module, Pooling) for module in modules):
        return (*modules, Pooling(modes=modes))
    return tuple(
        msgspec.structs.replace(module, modes=modes) if isinstance(module, Pooling) else module
        for module in modules
    )


def pooling_of(chain: Chain) -> Pooling | None:
    """The chain's Pooling module."""
    return next((module for module in chain if isinstance(module, Pooling)), None)


def without_last_normalize(chain: Chain) -> tuple[Chain, bool]:
    """A chain up to the Normalize modules that it ends in, and whether there were any."""
    kept = chain
    while kept and isinstance(kept[-1], Normalize):
        kept = kept[:-1]
    return kept, len(kept) < len(chain)


def row_size(chain: Chain, size: int) -> int:
    """Size of the rows that a chain gives.

    Args:
        chain: the modules.
        size: of the rows that it is given.

    Raises:
        ExportError: sizes that do not chain.
    """
    origin = "the transformer"
    for module in chain:
        taken = _taken(module)
        name = _name(module)
        if taken not in (None, size):
            raise ExportError(
                f"{name} takes rows of {taken} components, but {origin} gives {size}; "
                "expected sizes that chain. Restore the config.json of both from the model's origin."
            )
        if isinstance(module, Pooling):
            size *= len(module.modes)
        elif isinstance(module, Dense):
            size = module.out_features
        origin = name
    return size


def weighted(*chains: Chain) -> tuple[Weighted, ...]:
    """Modules with weights of their own, each once, in order."""
    modules = (module for chain in chains for module in chain)
    return tuple(dict.fromkeys(module for module in modules if isinstance(module, Dense | LayerNorm)))


def in_words(module: Module) -> str:
    """A module as people read it."""
    match module:
        case Pooling():
            return f"Pooling by {', '.join(module.modes)}"
        case Dense():
            residual = ", residual" if module.use_residual else ""
            return f"Dense {module.in_features} to {module.out_features}, {module.activation}{residual}"
        case Normalize():
            return "Normalize"
        case LayerNorm():
            return f"LayerNorm of {module.size}"


def _taken(module: Module) -> int | None:
    match module:
        case Dense():
            return module.in_features
        case Normalize():
            return None
        case Pooling() | LayerNorm():
            return module.size


def _name(module: Module) -> str:
    if isinstance(module, Dense | LayerNorm):
        return module.folder.name
    return f"the {type(module).__name__} module"
