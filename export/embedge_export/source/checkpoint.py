"""A checkpoint as embedge understands it: what `open_checkpoint` finds out, and every later stage works from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from embedge.manifest import HeadSpec, LateInteractionSpec, PoolingSpec, Similarity, TemplateSpec
from embedge.types import Task
from embedge_export.families.family import Family
from embedge_export.source.causal_reranker import CausalReranker
from embedge_export.source.classifier import Classifier, PooledClassifier, Reward, TokenClassifier
from embedge_export.source.embedder import Embedder
from embedge_export.source.kinds import KINDS, Kind, KindFacts, What
from embedge_export.source.late_interaction import LateInteraction
from embedge_export.source.modules import Chain, Weighted, weighted
from embedge_export.source.repository import Repository
from embedge_export.source.static import Static

_BY_TOKEN = PoolingSpec(modes=("ALL",))
_MEAN = PoolingSpec(modes=("MEAN",))


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an export needs to know of a checkpoint.

    Attributes:
        repository: where it is.
        transformer: folder of the transformer's config, weights and tokenizer.
        what: what it is, with the facts that only its kind has.
        family: facts about its architecture.
        model_type, architecture: as its config states them.
        tasks: what a bundle of it can do, the main one first.
        hidden_size: size of the hidden states.
        embedding_size: components of a full embedding; None where the bundle embeds nothing.
        num_attention_heads: heads of a layer; None where the config names none.
        vocab_size: rows of the embedding matrix.
        weights: weight files by their path in the checkpoint, with their hashes.
        code: Python files that loading it runs, likewise.
        config: its configuration with defaults filled in; none of static embeddings.
        config_words: set on the configuration that transformers reads; see Transformer.
        ignored_keys: keys of its files that the caller answers for.
        bundle_version: of the bundle that is made of it, as the caller counts them.
        settings: its small files, likewise.
        max_positions: longest sequence that the position embeddings were made for; None without a limit.
        stated_max_seq_len: limit that the caller or sentence_bert_config.json states.
        tokenizer_words: how its tokenizer is loaded otherwise than tokenizer.json states it.
        config_kwargs: what its settings put in place of config.json.
        message, prompts, default_prompt_name, matryoshka, dimensions, similarity: as in the manifest.
    """

    repository: Repository
    transformer: Path
    what: What
    family: Family
    model_type: str
    architecture: str
    tasks: tuple[Task, ...]
    hidden_size: int
    vocab_size: int
    weights: dict[str, str]
    embedding_size: int | None = None
    code: dict[str, str] = msgspec.field(default_factory=dict)
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    config_words: dict[str, Any] = msgspec.field(default_factory=dict)
    ignored_keys: tuple[str, ...] = ()
    bundle_version: str | None = None
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    num_attention_heads: int | None = None
    max_positions: int | None = None
    stated_max_seq_len: int | None = None
    config_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    tokenizer_words: tuple[str, ...] = ()
    message: TemplateSpec | None = None
    prompts: dict[str, str] = msgspec.field(default_factory=dict)
    default_prompt_name: str | None = None
    tower: str | None = None
    matryoshka: bool | tuple[int, ...] = False
    dimensions: int | None = None
    similarity: Similarity = "cosine"

    @property
    def kind(self) -> Kind:
        """Name of what it is."""
        return cast("Kind", self.what.__struct_config__.tag)

    @property
    def facts(self) -> KindFacts:
        """What is done with its kind."""
        return KINDS[self.kind]

    @property
    def pooling(self) -> PoolingSpec | None:
        """As in the manifest."""
        match self.what:
            case Embedder():
                return self.what.pooling
            case Reward(step_tag_id=tag):
                return PoolingSpec(modes=("STEP",), step_tag_id=tag)
            case LateInteraction() | TokenClassifier():
                return _BY_TOKEN
            case Static():
                return _MEAN
        return None

    @property
    def rows(self) -> Chain:
        """Modules that make one row of the hidden states, the one of the text."""
        return self.what.rows if isinstance(self.what, Embedder | PooledClassifier | Static) else ()

    @property
    def token_rows(self) -> Chain:
        """Modules that make one row of each token's hidden state."""
        return self.what.tokens if isinstance(self.what, Embedder | LateInteraction) else ()

    @property
    def twin(self) -> Chain:
        """Modules that the SDK runs itself where it pools by another mode or leaves a prompt out."""
        return self.rows if isinstance(self.what, Embedder | Static) else self.token_rows

    @property
    def weighted(self) -> tuple[Weighted, ...]:
        """Modules with weights of their own."""
        return weighted(self.rows, self.token_rows)

    @property
    def normalize(self) -> bool:
        """As in the manifest."""
        if isinstance(self.what, Embedder | Static):
            return self.what.normalize
        return isinstance(self.what, LateInteraction)

    @property
    def head(self) -> HeadSpec | None:
        """As in the manifest."""
        heads = Classifier | PooledClassifier | TokenClassifier | Reward | CausalReranker
        return self.what.head if isinstance(self.what, heads) else None

    @property
    def template(self) -> TemplateSpec | None:
        """As in the manifest."""
        return self.what.template if isinstance(self.what, CausalReranker | Classifier) else None

    @property
    def late_interaction(self) -> LateInteractionSpec | None:
        """As in the manifest."""
        return self.what.spec if isinstance(self.what, LateInteraction) else None

    @property
    def step_tag(self) -> str | None:
        """Text of a process reward model's step token."""
        return self.what.step_tag if isinstance(self.what, Reward) else None

    @property
    def sparse(self) -> bool:
        """The pooled output is (batch, vocab_size) term weights."""
        return self.facts.outputs == "term_weights"

    @property
    def trust_remote_code(self) -> bool:
        """Loading it runs its own code; it is not read where the caller does not trust that."""
        return bool(self.code)

    @property
    def assumed(self) -> tuple[str, ...]:
        """As in the manifest."""
        pooling = self.what.assumed if isinstance(self.what, Embedder) else ()
        return (*pooling, *self.tokenizer_words)

    @property
    def is_decoder(self) -> bool:
        """A causal architecture: heads read the last token, and only the base model is traced."""
        return self.family.pooling == "LAST"

    @property
    def passed_over_id(self) -> int | None:
        """Id of tokens that are not the last one to a decoder's classifier, though real; None where each may be.

        transformers looks for the last token that is not the padding one, which a tokenizer may also end texts with.
        """
        if not (self.is_decoder and isinstance(self.what, Classifier)):
            return None
        padding = self.config.get("pad_token_id")
        return padding if isinstance(padding, int) else None


def weight_sizes(checkpoint: Checkpoint) -> dict[str, int]:
    """Size in bytes of every weight file, by its path in the checkpoint."""
    folder = checkpoint.repository.folder
    return {name: (folder / name).stat().st_size for name in checkpoint.weights}
