"""A checkpoint as embedge understands it: what source.py reads, and every later stage works from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from embedge.manifest import HeadSpec, LateInteractionSpec, PoolingSpec, Similarity, TemplateSpec
from embedge.types import Task
from embedge_export.families.family import Family
from embedge_export.source.modules import DenseModule
from embedge_export.source.repository import Repository

Kind: TypeAlias = Literal[
    "embedding",
    "late_interaction",
    "sparse",
    "static",
    "classifier",
    "token_classifier",
    "reward",
    "causal_reranker",
]
"""What a checkpoint is, which decides its tasks, the class that loads it and the heads of its graph."""


class LateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Late interaction as the checkpoint states it, in words; tokens.py finds their ids.

    Attributes:
        query_marker, document_marker: text of the marker tokens.
        query_len, document_len: limits in tokens, specials and marker included.
        expand_query, attend_to_expansion: as in LateInteractionSpec.
        skip_words: document tokens left out of MaxSim.
    """

    query_marker: str | None
    document_marker: str | None
    query_len: int
    document_len: int
    expand_query: bool
    attend_to_expansion: bool
    skip_words: tuple[str, ...] = ()


class ScoreTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens whose logits a causal reranker compares, by id where the checkpoint states ids.

    Attributes:
        yes, no: id, or text; `no` is None where the logit of `yes` alone is the score.
    """

    yes: int | str
    no: int | str | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an export needs to know of a checkpoint.

    Attributes:
        repository: where it is.
        transformer: folder of the transformer's config, weights and tokenizer.
        kind: what it is.
        family: facts about its architecture.
        model_type, architecture: as its config states them.
        tasks: what a bundle of it can do, the main one first.
        hidden_size: size of the hidden states.
        num_attention_heads: heads of a layer; None where the config names none.
        vocab_size: rows of the embedding matrix.
        weights: weight files by their path in the checkpoint, with their hashes.
        code: Python files that loading it runs, likewise.
        settings: its small files, likewise.
        max_positions: longest sequence that the position embeddings were made for; None without a limit.
        stated_max_seq_len: limit that the caller or sentence_bert_config.json states.
        lowercase: lower-case the text first.
        dense: Dense modules in order.
        splade_sum, splade_twice: SpladePooling sums instead of taking the maximum; applies log1p twice.
        late: late interaction in words.
        score_tokens: what a causal reranker compares, in words; score_ids by id: yes, and no if there is one.
        template_options: what sentence-transformers passes to the chat template besides the messages.
        step_tag: text of a process reward model's step token.
        pooling, normalize, sparse, head, template, late_interaction, prompts, default_prompt_name, matryoshka,
            dimensions, similarity: as in the manifest.
    """

    repository: Repository
    transformer: Path
    kind: Kind
    family: Family
    model_type: str
    architecture: str
    tasks: tuple[Task, ...]
    hidden_size: int
    vocab_size: int
    weights: dict[str, str]
    code: dict[str, str] = msgspec.field(default_factory=dict)
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    num_attention_heads: int | None = None
    max_positions: int | None = None
    stated_max_seq_len: int | None = None
    lowercase: bool = False
    dense: tuple[DenseModule, ...] = ()
    splade_sum: bool = False
    splade_twice: bool = False
    late: LateSettings | None = None
    score_tokens: ScoreTokens | None = None
    score_ids: tuple[int, ...] = ()
    template_options: dict[str, bool | int | str] = msgspec.field(default_factory=dict)
    step_tag: str | None = None
    pooling: PoolingSpec | None = None
    normalize: bool = False
    head: HeadSpec | None = None
    template: TemplateSpec | None = None
    late_interaction: LateInteractionSpec | None = None
    prompts: dict[str, str] = msgspec.field(default_factory=dict)
    default_prompt_name: str | None = None
    matryoshka: bool | tuple[int, ...] = False
    dimensions: int | None = None
    similarity: Similarity = "cosine"

    @property
    def sparse(self) -> bool:
        """The pooled output is (batch, vocab_size) term weights."""
        return self.kind == "sparse"

    @property
    def trust_remote_code(self) -> bool:
        """Loading it runs its own code; source.py refuses to read it where the caller does not trust it."""
        return bool(self.code)

    @property
    def is_decoder(self) -> bool:
        """A causal architecture: heads read the last token, and only the base model is traced."""
        return self.family.pooling == "LAST"

    @property
    def embedding_size(self) -> int | None:
        """Components of a full embedding, None where the bundle embeds nothing."""
        if self.kind == "sparse":
            return self.vocab_size
        if "embed" not in self.tasks and "token_embed" not in self.tasks:
            return None
        if self.dense:
            return self.dense[-1].out_features
        return self.hidden_size * (len(self.pooling.modes) if self.pooling else 1)
