"""The figures that variants are judged by: their words, how they are shown, and which end is the better one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A field of EndToEnd that people read.

    Attributes:
        words: its name.
        show: writes a value.
        sign: how a value stands to its gate.
    """

    words: str
    show: Callable[[float], str]
    sign: Literal["≥", "≤"] = "≥"


def show_cosine(value: float) -> str:
    """Enough digits to tell a cosine from 1."""
    return f"{value:.7f}" if value > 0.9999 else f"{value:.5f}"


FIGURES: dict[str, Figure] = {
    "cosine_min": Figure(words="smallest end-to-end cosine", show=show_cosine),
    "cosine_mean": Figure(words="mean end-to-end cosine", show=show_cosine),
    "top_10_overlap": Figure(words="top-10 overlap", show="{:.4f}".format),
    "ndcg_10": Figure(words="nDCG@10", show="{:.4f}".format),
    "rank_correlation": Figure(words="rank correlation", show="{:.4f}".format),
    "max_score_diff": Figure(words="largest score error", show="{:.1e}".format, sign="≤"),
    "label_agreement": Figure(words="label agreement", show="{:.2%}".format),
    "max_prob_diff": Figure(words="largest probability error", show="{:.1e}".format, sign="≤"),
}
"""By field, in the order of messages. Gates are in precisions.py."""
