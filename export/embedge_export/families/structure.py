"""What an encoder is made of, as data: sizes, norms, positions, and the names of the weights of each part.

A family's file fills these structs from a checkpoint's configuration; graph/built turns them into a graph and knows no
family. Matrices are written as torch stores them, (out_features, in_features).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import msgspec
import numpy.typing as npt

HiddenActivation: TypeAlias = Literal["gelu", "gelu_tanh", "silu", "relu", "tanh"]
Window: TypeAlias = tuple[int, int]
Array: TypeAlias = npt.NDArray[Any]
Load: TypeAlias = Callable[[], Array]
"""Reads a weight at the moment that it is written."""


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the structure's parts."""


class Tensor(_Part, frozen=True, kw_only=True):
    """A stored weight, or rows of one.

    Attributes:
        name: key in the checkpoint, without the prefix of the base model.
        shape: of the stored weight.
        rows: the first row that belongs to this part and the first after it, where several share a weight.
        share: where rows alternate among parts: this part's index, how many parts, and how many rows it has at a time.
        offset: added to every element (Gemma's norms store w, and multiply by 1 + w).
    """

    name: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    share: tuple[int, int, int] | None = None
    offset: float = 0.0

    @property
    def size(self) -> tuple[int, ...]:
        """Shape of this part."""
        if self.share is not None:
            return (self.shape[0] // self.share[1], *self.shape[1:])
        return self.shape if self.rows is None else (self.rows[1] - self.rows[0], *self.shape[1:])


class Linear(_Part, frozen=True, kw_only=True):
    """x @ weight.T + bias."""

    weight: Tensor
    bias: Tensor | None = None

    @property
    def out_features(self) -> int:
        """Components of the result."""
        return self.weight.size[0]

    @property
    def in_features(self) -> int:
        """Components of x."""
        return self.weight.size[1]


class Norm(_Part, frozen=True, kw_only=True):
    """Layer normalisation, or root-mean-square normalisation ("rms"), over the last axis."""

    kind: Literal["layer", "rms"]
    epsilon: float
    weight: Tensor
    bias: Tensor | None = None


class Rotary(_Part, frozen=True, kw_only=True):
    """Rotary positions, first half of a head against its second half.

    Attributes:
        frequencies: radians per position, one for each pair of components; pairs beyond them stay as they are.
        scale: factor on cosine and sine (long-context scalings).
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0


class Disentangled(_Part, frozen=True, kw_only=True):
    """Scores that depend on a token's content and on how far the other is (DeBERTa).

    With i the query's position, j the key's, n = norm(table) and r = row_at[clip(i - j, -d, d) + d], the score of a
    head gets `scale` * (q_i . (key(n))_r + k_j . (query(n))_r) added before the softmax, where q and k are attention's
    own queries and keys with their biases, and key(n) and query(n) are split among the heads like them.

    Attributes:
        table: (rows, hidden_size), one row for each bucket of distances.
        norm: over the table's rows, if any.
        row_at: row of each distance from -d to d, 2 d + 1 of them; those further away are as d. It never falls.
        key: makes positions that queries are multiplied with; None leaves out this term.
        query: makes positions that keys are multiplied with; None leaves out this term.
    """

    table: Tensor
    row_at: tuple[int, ...]
    norm: Norm | None = None
    key: Linear | None = None
    query: Linear | None = None


class Growth(_Part, frozen=True, kw_only=True):
    """Queries grow with their positions: times 1 + rate * log(1 + floor(position / length))."""

    rate: float
    length: int


class Attention(_Part, frozen=True, kw_only=True):
    """Attention over the tokens of one sequence.

    Attributes:
        query, key, value, output: projections; key and value may have fewer heads.
        num_heads, num_kv_heads, head_dim: sizes.
        scale: factor on the products of queries and keys.
        query_norm, key_norm: before the rotation.
        norms_of: what they normalise, each head's components or all heads' together.
        rotary: rotation of queries and keys.
        growth: of queries, after the rotation.
        softcap: scores s become softcap * tanh(s / softcap), before what is not seen is hidden; None to leave them.
        causal: a token sees no later token.
        window: how many tokens before and after itself a token sees; None for all.
        relative: add the encoder's relative-position bias.
        disentangled: add scores of contents and distances.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    norms_of: Literal["head", "all heads"] = "head"
    rotary: Rotary | None = None
    growth: Growth | None = None
    softcap: float | None = None
    causal: bool = False
    window: Window | None = None
    relative: bool = False
    disentangled: Disentangled | None = None

    @property
    def is_plain(self) -> bool:
        """Every token sees every other, and what is seen does not depend on where."""
        return not (
            self.causal
            or self.window is not None
            or self.relative
            or self.disentangled is not None
            or self.num_heads != self.num_kv_heads
            or self.rotary is not None
            or self.growth is not None
            or self.softcap is not None
            or self.query_norm is not None
            or self.key_norm is not None
        )


class FeedForward(_Part, frozen=True, kw_only=True):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) where there is a gate."""

    up: Linear
    down: Linear
    activation: HiddenActivation
    gate: Linear | None = None


class Sublayer(_Part, frozen=True, kw_only=True):
    """What stands around attention or feed-forward: norm_after(x + scale * norm_out(f(norm_in(x))))."""

    norm_in: Norm | None = None
    norm_out: Norm | None = None
    norm_after: Norm | None = None
    scale: float = 1.0


class Layer(_Part, frozen=True, kw_only=True):
    """One layer: attention, then feed-forward, each added to its input."""

    attention: Attention
    feed_forward: FeedForward
    around_attention: Sublayer
    around_feed_forward: Sublayer


class LearntPositions(_Part, frozen=True, kw_only=True):
    """Learnt absolute positions.

    Attributes:
        table: (rows, size).
        kind: "range" counts from 0 with padding included, "tokens" counts the tokens that are not padding.
        padding_id: what "tokens" takes for padding; positions start after it.
    """

    table: Tensor
    kind: Literal["range", "tokens"] = "range"
    padding_id: int = 0


class Embedding(_Part, frozen=True, kw_only=True):
    """Token ids to the first hidden states.

    Attributes:
        words: (vocab_size, size).
        positions: learnt positions, if any.
        types: (type_vocab_size, size), if any.
        types_input: the graph takes token_type_ids; otherwise type 0 is added everywhere.
        scale: factor on the words' rows.
        norm: after the sum.
        projection: from the embedding's size to the hidden size.
    """

    words: Tensor
    positions: LearntPositions | None = None
    types: Tensor | None = None
    types_input: bool = True
    scale: float = 1.0
    norm: Norm | None = None
    projection: Linear | None = None


class RelativeBias(_Part, frozen=True, kw_only=True):
    """T5's and MPNet's relative positions, both directions: one number per bucket of distances and head."""

    table: Tensor
    max_distance: int


class Head(_Part, frozen=True, kw_only=True):
    """Hidden states to logits: last(norm(activation(first(x)))), each but the last where there is one.

    Attributes:
        pooling: the sequence's first token, its last, or the mean of all; None for logits at every token.
        passed_over_id: of tokens that are not the last one, though real.
    """

    last: Linear
    pooling: Literal["CLS", "LAST", "MEAN"] | None = None
    passed_over_id: int | None = None
    first: Linear | None = None
    activation: HiddenActivation | None = None
    norm: Norm | None = None


class WordLogits(_Part, frozen=True, kw_only=True):
    """A language model's logits: cap * tanh(x / divisor / cap) of products x of hidden states and words.

    Attributes:
        divisor: as it stands there.
        cap: likewise; None for x / divisor.
    """

    divisor: float = 1.0
    cap: float | None = None


class Encoder(_Part, frozen=True, kw_only=True):
    """A whole encoder; layers may repeat (ALBERT shares one)."""

    embedding: Embedding
    layers: tuple[Layer, ...]
    hidden_size: int
    vocab_size: int
    final_norm: Norm | None = None
    relative: RelativeBias | None = None


def tensors(part: object) -> Iterator[Tensor]:
    """Every stored weight that a part is made of."""
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, _Part):
        for name in part.__struct_fields__:
            yield from tensors(getattr(part, name))
    elif isinstance(part, tuple):
        for item in part:
            yield from tensors(item)
