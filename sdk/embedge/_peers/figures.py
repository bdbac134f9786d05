"""What was measured of each subject, and of all."""

from __future__ import annotations

import msgspec


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Who was not measured, or not to the end.

    Attributes:
        label: as in Subject.
        reason: in words.
        rounds: that were measured before.
    """

    label: str
    reason: str
    rounds: int = 0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of all rounds: their median, and the lowest and highest of them."""

    median: float
    low: float
    high: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One subject's figures.

    Attributes:
        label, ours, dtype, version: as in Subject.
        start_s: from the start of its process to the first vector, once.
        query_ms: median of one text at a time.
        short_per_s, passages_per_s: texts of one call.
        peak_rss_bytes: highest resident memory of its process; None where the system does not tell.
        cosine_min, cosine_mean: to the reference's vectors; None of the reference itself.
        same_vectors: it computes the checkpoint's vectors, but for rounding.
    """

    label: str
    ours: bool
    dtype: str
    version: str
    start_s: float
    query_ms: Spread
    short_per_s: Spread
    passages_per_s: Spread
    peak_rss_bytes: int | None
    cosine_min: float | None
    cosine_mean: float | None
    same_vectors: bool


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, and of what.

    Attributes:
        rounds: in which each subject had its turn.
        seconds: that all of it took.
        queries, shorts, passages: texts of a turn.
        short_words, passage_words: mean numbers of words.
        reference: whose vectors the cosines compare with.
        compared: texts whose vectors were compared.
        measured: one for each subject, ours first.
        left_out: who was not measured, and why.
    """

    rounds: int
    seconds: float
    queries: int
    shorts: int
    passages: int
    short_words: float
    passage_words: float
    reference: str
    compared: int
    measured: tuple[Measured, ...]
    left_out: tuple[LeftOut, ...]
