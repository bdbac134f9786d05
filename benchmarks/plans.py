"""Which cases of which models are measured together, what matters most first."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.subjects import KEY_SUBJECTS, REFERENCE, SUBJECTS


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A set of measurements.

    Attributes:
        cases: "MODEL/CASE", in the order of measuring.
        subjects: names in SUBJECTS.
        minutes: about how long it takes on two cores of a recent x86 server; for --help.
    """

    cases: tuple[str, ...]
    subjects: tuple[str, ...]
    minutes: int


OTHERS = tuple(name for name in SUBJECTS if name not in KEY_SUBJECTS)

PLANS = {
    "main": Plan(
        cases=(
            "minilm/passages",
            "minilm/query",
            "minilm/start",
            "minilm/short",
            "cross-encoder/rerank",
        ),
        subjects=KEY_SUBJECTS,
        minutes=32,
    ),
    "long": Plan(cases=("minilm/long", "minilm/long512"), subjects=KEY_SUBJECTS, minutes=15),
    # embedge takes part again, so that every ratio is of the same rounds
    "peers": Plan(
        cases=("minilm/passages", "minilm/query", "minilm/start", "minilm/short", "cross-encoder/rerank"),
        subjects=("embedge-fp32", "embedge-int8", *OTHERS),
        minutes=70,
    ),
    # which other peers do not know
    "families": Plan(
        cases=tuple(
            f"{model}/{case}"
            for case in ("long2048", "long512", "passages")
            for model in ("modernbert", "qwen3")
        ),
        subjects=("embedge-fp32", "embedge-int8", REFERENCE),
        minutes=25,
    ),
    "models": Plan(
        cases=(
            "bert-base/passages",
            "bert-base/query",
            "multilingual/passages",
            "multilingual/query",
            "bert-base/start",
            "bert-base/short",
            "bert-base/long512",
            "multilingual/start",
            "multilingual/short",
        ),
        subjects=KEY_SUBJECTS,
        minutes=60,
    ),
}
