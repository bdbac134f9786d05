"""What a generated checkpoint is, drawn from a seed: data only."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = ("embedder", "cross_encoder", "classifier", "sparse", "static")
_WEIGHTS = (10, 4, 2, 2, 2)
_NETWORKS: Mapping[str, tuple[str, ...]] = {
    "embedder": ("bert", "mpnet", "roberta", "xlm-roberta", "distilbert", "electra", "albert", "qwen3", "llama",
                 "mistral", "modernbert"),
    "cross_encoder": ("bert", "roberta", "electra", "modernbert", "qwen3-causal"),
    "classifier": ("bert", "roberta", "distilbert", "modernbert"),
    "sparse": ("bert", "distilbert"),
    "static": ("table",),
}  # fmt: skip


@dataclass
class Plan:
    """One checkpoint.

    Attributes:
        seed: of its weights, too.
        kind: of KINDS.
        network: of _NETWORKS.
        config: settings of the network.
        tokenizer: settings of the tokenizer.
        pooling: modes in order.
        modules: what follows the pooling, in order: (class, settings).
        settings: of the library's model, such as prompts.
        edits: keys of JSON files, by file, that no class has a parameter for.
        dtype: of the stored weights.
        is_old: in the layout before sentence-transformers 5.4.
        options: names of what was drawn.
    """

    seed: int
    kind: str
    network: str
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    pooling: tuple[str, ...] = ("mean",)
    modules: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    edits: dict[str, dict[str, Any]] = field(default_factory=dict)
    dtype: str = "float32"
    is_old: bool = False
    options: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Components of a pooled row, which the first module takes."""
        return 32 * len(self.pooling)

    def edit(self, file: str, **keys: Any) -> None:
        self.edits.setdefault(file, {}).update(keys)

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.kind}, {self.network}, {', '.join(self.options) or 'plain'}"


def draw(seed: int, *, everything: bool = False) -> Plan:
    """Draw a checkpoint; the same seed gives the same one.

    Args:
        seed: any number.
        everything: draw options that are switched off, too.
    """
    from tests.generated.options import OPTIONS

    chance = random.Random(seed)
    kind = chance.choices(KINDS, _WEIGHTS)[0]
    plan = Plan(seed=seed, kind=kind, network=chance.choice(_NETWORKS[kind]))
    if kind == "embedder":
        plan.pooling = (
            chance.choice(("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")),
        )
    for name, option in OPTIONS.items():
        # every option takes its chance, so that one that is switched on leaves the others' draws as they were
        taken, own = chance.random() < option.share, random.Random(chance.random())
        if taken and option.fits(plan) and (option.on or everything):
            option.apply(plan, own)
            plan.options.append(name)
    return plan
