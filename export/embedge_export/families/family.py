"""What is known of one architecture: its facts, and who reads its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

from embedge.types import PoolingMode
from embedge_export.families.parts import Config
from embedge_export.families.structure import Encoder, Head, WordLogits

HeadKind: TypeAlias = Literal["sequence", "token", "vocabulary"]
"""What a head's logits are of: the whole sequence, each token, or the vocabulary at each token."""
ReadEncoder: TypeAlias = Callable[[Config], Encoder]
ReadHead: TypeAlias = Callable[[Config, HeadKind], Head]
ReadWordLogits: TypeAlias = Callable[[Config], WordLogits]

ROUNDING = 2.0**-23
"""The distance of 1 from the next float32.

Real weights of 12 layers were seen to differ by 80 times that where a computation in float64 says that either answer is
right.
"""


def _plain(_config: Config) -> WordLogits:
    return WordLogits()


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that a checkpoint's files do not state, and the readers of those that they do.

    Attributes:
        pooling: mode where no sentence-transformers file names one; None where the caller has to.
        position_offset: positions of max_position_embeddings that no token can use.
        bounded_positions: max_position_embeddings is the size of a table, so that no text can be longer, whatever
            the checkpoint states.
        rounding_units: gate between the graph and the float32 reference, in units of float32's rounding, ROUNDING, of
            the largest number of an answer: sums taken in another order differ by that, and more the deeper a model is.
        encoder_only: class to load where the architecture is an encoder with a decoder.
        default_max_seq_len: limit where neither config nor tokenizer states one.
        load_options: what transformers 4's from_pretrained is given besides.
        remote: its code comes with the checkpoint.
        native: transformers has an architecture of the same name and the same weights, too.
        encoder: from a configuration to the encoder's structure; None where the graph is always traced.
        head: from a configuration to the structure of a head; None where heads are traced, or attached afterwards.
        word_logits: from a configuration to what is made of a language model's products with its words.
        prefixes: what a checkpoint with a head puts before the names of its encoder's weights.
        renames: what stands in the names of older checkpoints' weights, and what the structure calls it.
    """

    pooling: PoolingMode | None = "CLS"
    position_offset: int = 0
    bounded_positions: bool = True
    rounding_units: int = 128
    encoder_only: str | None = None
    default_max_seq_len: int | None = None
    load_options: Mapping[str, bool] = msgspec.field(default_factory=dict)
    remote: bool = False
    native: bool = False
    encoder: ReadEncoder | None = None
    head: ReadHead | None = None
    word_logits: ReadWordLogits = _plain
    prefixes: tuple[str, ...] = ()
    renames: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def max_abs_diff(self) -> float:
        """The gate for answers of up to 1: normalisations keep hidden states there, whose rounding answers inherit."""
        return self.rounding_units * ROUNDING
