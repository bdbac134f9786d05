"""Kinds of checkpoint: one row each of what every later stage does with it, and what only that kind has."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from embedge.types import Task
from embedge_export.families.family import HeadKind
from embedge_export.source.causal_reranker import CausalReranker
from embedge_export.source.classifier import Classifier, PooledClassifier, Reward, TokenClassifier
from embedge_export.source.embedder import Embedder, Splade
from embedge_export.source.late_interaction import LateInteraction
from embedge_export.source.static import Static

Kind: TypeAlias = Literal[
    "embedding",
    "late_interaction",
    "sparse",
    "static",
    "classifier",
    "pooled_classifier",
    "token_classifier",
    "reward",
    "causal_reranker",
]
"""What a checkpoint is; the tag of its member of `What`."""

What: TypeAlias = (
    Embedder
    | LateInteraction
    | Splade
    | Static
    | Classifier
    | PooledClassifier
    | TokenClassifier
    | Reward
    | CausalReranker
)
"""What a checkpoint is, with the facts that only its kind has."""

Outputs: TypeAlias = Literal[
    "embedding", "token_embeddings", "term_weights", "logits", "pooled_logits", "token_logits"
]
BuiltInInputs: TypeAlias = Literal["texts", "texts and pairs", "pairs", "steps"]


class KindFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with a kind of checkpoint.

    Attributes:
        tasks: of the bundle, the main one first.
        loader: class of transformers that loads it; None where none does.
        trace_task: what is traced, in optimum's words.
        head: which head of the checkpoint a built graph has.
        outputs: what the finished graph gives, which decides what is attached to it.
        inputs: built-in texts or pairs to verify it with; "steps" are texts where it has no step tag.
        wraps: an ONNX file of it can be wrapped.
    """

    tasks: tuple[Task, ...]
    loader: str | None
    outputs: Outputs
    trace_task: str = "feature-extraction"
    head: HeadKind | None = None
    inputs: BuiltInInputs = "texts"
    wraps: bool = True


KINDS: dict[Kind, KindFacts] = {
    "causal_reranker": KindFacts(
        tasks=("score",), loader="AutoModelForCausalLM", outputs="logits", inputs="pairs", wraps=False
    ),
    "classifier": KindFacts(
        tasks=("classify",),  # and score before it, where there is one label
        loader="AutoModelForSequenceClassification",
        trace_task="text-classification",
        head="sequence",
        outputs="logits",
        inputs="texts and pairs",
    ),
    "embedding": KindFacts(tasks=("embed", "token_embed"), loader="AutoModel", outputs="embedding"),
    "late_interaction": KindFacts(
        tasks=("token_embed",), loader="AutoModel", outputs="token_embeddings", inputs="texts and pairs"
    ),
    "pooled_classifier": KindFacts(
        tasks=("classify",),  # and score before it, where there is one label
        loader="AutoModel",
        outputs="pooled_logits",
        inputs="texts and pairs",
        wraps=False,
    ),
    "reward": KindFacts(
        tasks=("token_classify",),
        loader="AutoModelForTokenClassification",
        trace_task="token-classification",
        head="token",
        outputs="token_logits",
        inputs="steps",
    ),
    "sparse": KindFacts(
        tasks=("embed",),
        loader="AutoModelForMaskedLM",
        trace_task="fill-mask",
        head="vocabulary",
        outputs="term_weights",
    ),
    "static": KindFacts(tasks=("embed", "token_embed"), loader=None, outputs="embedding", wraps=False),
    "token_classifier": KindFacts(
        tasks=("token_classify",),
        loader="AutoModelForTokenClassification",
        trace_task="token-classification",
        head="token",
        outputs="token_logits",
    ),
}
