"""The table: families by tasks, each a checkpoint that either generation can save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GATE, DECODERS_GATE = 1e-5, 1e-4
_YES = {"task": "score", "yes_token": "yes", "no_token": "no"}
_ALSO = {"embed": ("embed", "token_embed"), "score": ("score", "rerank")}
CODE = "code of its own"
"""Checkpoints with Python files beside their weights: an architecture of no family, and the source of such a case."""


Asked = Mapping[str, Any]
"""Texts, pairs, or a query and its documents, by task."""


@dataclass(frozen=True)
class Case:
    """One checkpoint, asked for its main task and for what comes with that.

    Attributes:
        family: model_type, or what stands in for one.
        task: the main one.
        source: a recipe of tests.checkpoints; "" for transformers' own class, made by tests.export.architectures; CODE.
        gate: largest difference of any component to the library that saved it; sums over many positions round more.
        spec: further arguments of ExportSpec.
    """

    family: str
    task: str
    source: str = ""
    gate: float = GATE
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.family}-{self.task}-{self.source or 'plain'}".replace(" ", "-")

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is asked."""
        if self.source in _UNRANKED or (self.source == CODE and self.task == "score"):
            return (self.task,)
        if self.source not in ("", CODE) and self.task == "embed":
            return (self.task,)
        return _ALSO.get(self.task, (self.task,))


def _decoder(family: str, task: str, source: str = "", **settings: Any) -> Case:
    return Case(family, task, source, DECODERS_GATE, **settings)


SHORT = (
    Case("bert", "embed", "bert-st"),
    Case("bert", "score", "cross-encoder-bert-1"),
    Case("bert", "token_classify", "token-classifier"),
    Case("bert", "embed", "splade"),
    Case("mpnet", "embed", "mpnet-st"),
    Case("xlm-roberta", "embed", "xlm-roberta-st"),
    Case("modernbert", "embed", "modernbert-st"),
    _decoder("qwen3", "embed", "qwen3-embedding"),
    _decoder("qwen3", "score", "qwen3-reranker", spec=_YES),
    _decoder("llama", "embed", "llama-st"),
    _decoder("gemma3_text", "embed", "gemma3-text-st"),
    Case("static", "embed", "static-embedding"),
)
"""What the tests run: one of each kind of checkpoint and of each kind of tokenizer."""

_MORE = (
    Case("bert", "classify", "classifier-single-label"),
    Case("bert", "score", "colbert"),
    Case("roberta", "embed", "roberta-st"),
    Case("roberta", "score", "roberta-pair"),
    Case("camembert", "embed", "camembert-st"),
    Case("distilbert", "embed", "distilbert-st"),
    Case("electra", "embed", "electra-st"),
    Case("albert", "embed", "albert-st"),
    Case("deberta-v2", "embed", "deberta-v2-st"),
    Case("modernbert", "classify", "modernbert-classifier-mean"),
    Case("t5", "embed", "gtr-t5"),
    Case("static", "embed", "model2vec"),
    _decoder("qwen2", "embed", "qwen2-st"),
    _decoder("qwen2", "token_embed", "qwen2"),
    _decoder("qwen2", "token_classify", "process-reward"),
    _decoder("qwen3", "score", "qwen3-reranker-st"),
    _decoder("qwen3", "classify", "qwen3-classifier"),
    _decoder("mistral", "embed", "mistral-st"),
)


_UNRANKED = ("colbert", "qwen3-reranker", "qwen3-reranker-st")
"""Recipes whose library is not CrossEncoder, or whose pairs are rendered through a template: scored, not ranked."""
_NATIVE_ONLY_TODAY: tuple[tuple[str, str], ...] = (("nomic_bert", "embed"), ("nomic_bert", "classify"))


def all_cases() -> tuple[Case, ...]:
    """Every case: the recipes, and each family with each head that transformers has for it."""
    from tests.export.architectures import REMOTE_ROW, cells

    from embedge_export.families.table import FAMILIES

    plain = [
        Case(family, task, gate=DECODERS_GATE if FAMILIES[family].max_abs_diff > 1e-4 else GATE)
        for family, task in (*cells(), *_NATIVE_ONLY_TODAY)
        if family != REMOTE_ROW
    ]
    trusted = {"trust_remote_code": True}
    coded = [
        *(Case(name, "embed", CODE, spec=trusted) for name, family in FAMILIES.items() if family.remote),
        *(Case(CODE, task, CODE, spec=trusted) for family, task in cells() if family == REMOTE_ROW),
    ]
    return tuple(
        sorted((*SHORT, *_MORE, *plain, *coded), key=lambda case: (case.family, case.task, case.source))
    )
