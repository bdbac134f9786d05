"""Precisions: what each variant's name stands for, how it may be told apart from float32, and the words for it.

To add one: a row in STORED_AS if its weights are stored in a new way, a row in VARIANTS, and a row in the table of
variants/compressed.py that makes its graph.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from embedge.manifest import Dtype, Target
from embedge.runtime import EXACT_INT8

Comparison: TypeAlias = Literal["embed", "score", "classify"]
"""How answers are compared: as vectors, as an order of documents, or as labels."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Worst figures that a variant may have; None is not judged."""

    cosine_min: float | None = None
    cosine_mean: float | None = None
    top_10_overlap: float | None = None
    ndcg_10_loss: float | None = None
    rank_correlation: float | None = None
    max_score_diff: float | None = None
    label_agreement: float | None = None
    max_prob_diff: float | None = None


class StoredAs(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from how a graph's weights are stored.

    Attributes:
        dtype: the manifest's word.
        words: what people read.
        size_share: size of the graph by that of the float32 weights, about.
        gates: by how answers are compared; reasons stand beside the figures, which are of all-MiniLM-L6-v2.
        given_tolerance: largest difference of a component of a unit vector from one that another library computed,
            perhaps on another machine.
        unmeasured_share: what a variant that no machine here could run may differ by, as a share of the largest answer.
        calibrated: it is made with what activations are on real texts.
    """

    dtype: Dtype
    words: str
    size_share: float
    gates: dict[Comparison, Gate]
    given_tolerance: float
    unmeasured_share: float | None = None
    calibrated: bool = False


class NamedVariant(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant's name stands for.

    Attributes:
        name: of the variant.
        stored: how its weights are stored.
        target: what its operators are for.
        needs: CPU features that it needs.
        unsigned: weights of 8 bits are stored around 128.
        stand_in: variant that is written in its place where it would overflow.
        gates: in place of those of how its weights are stored.
    """

    name: str
    stored: StoredAs
    target: Target = "cpu"
    needs: tuple[str, ...] = ()
    unsigned: bool = False
    stand_in: str | None = None
    gates: dict[Comparison, Gate] | None = None

    @property
    def dtype(self) -> Dtype:
        """Precision of the weights."""
        return self.stored.dtype

    @property
    def stem(self) -> str:
        """Name of the graph's file without its ending."""
        return "model" if self.name == "fp32" else f"model_{self.name}"


def _vectors(cosine_min: float, cosine_mean: float, top_10_overlap: float, ndcg_10_loss: float) -> Gate:
    return Gate(
        cosine_min=cosine_min,
        cosine_mean=cosine_mean,
        top_10_overlap=top_10_overlap,
        ndcg_10_loss=ndcg_10_loss,
    )


def _order(rank_correlation: float, max_score_diff: float) -> Gate:
    return Gate(rank_correlation=rank_correlation, max_score_diff=max_score_diff)


def _labels(label_agreement: float, max_prob_diff: float) -> Gate:
    return Gate(label_agreement=label_agreement, max_prob_diff=max_prob_diff)


_FLOAT32 = StoredAs(
    dtype="float32",
    words="float32",
    size_share=1.0,
    # the order of sums, and nothing else
    gates={
        "embed": _vectors(0.999999, 0.999999, 0.99, 0.001),
        "score": _order(0.9999, 1e-4),
        "classify": _labels(1.0, 1e-4),
    },
    given_tolerance=1e-4,
)
_FLOAT16 = StoredAs(
    dtype="float16",
    words="float16",
    size_share=0.5,
    # 11 bits of mantissa; pooling and norms stay in float32
    gates={
        "embed": _vectors(0.9999, 0.99995, 0.97, 0.005),
        "score": _order(0.995, 0.01),
        "classify": _labels(0.995, 0.01),
    },
    given_tolerance=5e-3,
    # the smallest cosine allows a difference of 1.4 % of the vector's length, most of it in its large components
    unmeasured_share=0.01,
)
_BFLOAT16 = StoredAs(
    dtype="bfloat16",
    words="bfloat16",
    size_share=0.5,
    # 8 bits of mantissa: torch's own bfloat16 of MiniLM has a smallest cosine of 0.9965
    gates={
        "embed": _vectors(0.995, 0.998, 0.92, 0.01),
        "score": _order(0.985, 0.04),
        "classify": _labels(0.99, 0.05),
    },
    given_tolerance=2e-2,
    # as for float16, of 10 %
    unmeasured_share=0.07,
)
_INT8 = StoredAs(
    dtype="int8",
    words="8-bit integers",
    size_share=0.27,
    # one scale per token and column reaches 0.990 / 0.9974 / 0.91 on MiniLM; one scale per tensor (0.977 / 0.992 /
    # 0.83) must not pass. Rerankers are held tighter: their score is the product, no second comparison evens it out
    gates={
        "embed": _vectors(0.985, 0.997, 0.85, 0.015),
        "score": _order(0.97, 0.08),
        "classify": _labels(0.98, 0.10),
    },
    given_tolerance=5e-2,
    calibrated=True,
)
_INT4 = StoredAs(
    dtype="int4",
    words="4-bit integers",
    size_share=0.16,
    # block weights for large decoders, who bear it better; a model this far off still finds the same documents
    gates={
        "embed": _vectors(0.94, 0.975, 0.70, 0.03),
        "score": _order(0.93, 0.15),
        "classify": _labels(0.95, 0.20),
    },
    given_tolerance=1e-1,
)

_OPENVINO_BFLOAT16: dict[Comparison, Gate] = {
    # OpenVINO keeps sums, norms and softmax in float32: MiniLM has a smallest cosine of 0.9999
    "embed": _vectors(0.999, 0.9995, 0.95, 0.005),
    "score": _order(0.99, 0.02),
    "classify": _labels(0.99, 0.02),
}

STORED_AS: dict[Dtype, StoredAs] = {
    each.dtype: each for each in (_FLOAT32, _FLOAT16, _BFLOAT16, _INT8, _INT4)
}
"""By the manifest's word, from fine to coarse."""

VARIANTS: dict[str, NamedVariant] = {
    each.name: each
    for each in (
        NamedVariant(name="fp32", stored=_FLOAT32),
        NamedVariant(name="fp16", stored=_FLOAT16),
        NamedVariant(name="fp16_cuda", stored=_FLOAT16, target="cuda", stand_in="bf16_cuda"),
        NamedVariant(name="bf16_cuda", stored=_BFLOAT16, target="cuda"),
        NamedVariant(name="fp32_openvino", stored=_FLOAT32, target="openvino"),
        NamedVariant(name="bf16_openvino", stored=_BFLOAT16, target="openvino", gates=_OPENVINO_BFLOAT16),
        NamedVariant(name="int8", stored=_INT8, needs=(EXACT_INT8,)),
        NamedVariant(name="uint8", stored=_INT8, unsigned=True),
        NamedVariant(name="int4", stored=_INT4),
    )
}
"""What can be exported, by name, in the order in which it is listed and made."""

CUDA_VARIANTS = tuple(name for name, each in VARIANTS.items() if each.target == "cuda")
"""What optimize_for="cuda" adds, in place of "fp16": the second where it is named, or where float16 would overflow."""

OPENVINO_VARIANTS = tuple(name for name, each in VARIANTS.items() if each.target == "openvino")
"""What optimize_for="openvino" adds, of one graph."""


def gates_of(name: str, dtype: Dtype) -> dict[Comparison, Gate]:
    """A variant's gates; of its precision where its name is none that is exported."""
    named = VARIANTS.get(name)
    return STORED_AS[dtype].gates if named is None or named.gates is None else named.gates
