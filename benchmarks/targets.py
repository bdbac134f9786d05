"""The speeds that embedge has to reach, and whether a results file shows them: medians of the ratios of each round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from benchmarks.cases import CASES
from benchmarks.models import MODELS
from benchmarks.subjects import REFERENCE, SUBJECTS
from benchmarks.tables import cases_of, paired, roofline_share, table

MODEL = "minilm"
ROUNDS = 5
COSINE_MEAN, COSINE_MIN, COSINE_TEXTS = 0.9985, 0.996, 1000
"""What int8 has to keep of float32, on at least so many passages."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on embedge's figure divided by a rival's in the same round.

    Attributes:
        measure: for the table.
        case: in cases.CASES.
        figure: in a run.
        ours, theirs: names in SUBJECTS.
        bound: that the median ratio keeps.
        side: "least": the ratio is at least the bound; "most": at most.
        faithful: the bound only counts at a fidelity that is enough, and higher than the rival's.
        model: in models.MODELS.
    """

    measure: str
    case: str
    figure: str
    ours: str
    theirs: str
    bound: float
    side: Literal["least", "most"] = "least"
    faithful: bool = False
    model: str = MODEL


@dataclass(frozen=True, kw_only=True)
class Share:
    """A bound on the share of the matrix-product ceiling, in percent."""

    measure: str
    case: str
    ours: str
    bound: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A bound on the memory of a call beside the loaded model, in MB, at a point of a curve of scaling.CURVES."""

    measure: str
    curve: str
    point: int
    ours: str
    bound: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A target and what was measured; `met` is None where there is no measurement.

    Attributes:
        target: the bound.
        measured: median, with the range of the rounds.
        remark: fidelities, and in how many rounds.
        met: whether the bound is kept.
    """

    target: Target | Share | Memory
    measured: str
    remark: str
    met: bool | None


def _passages(precision: str, theirs: str, bound: float, *, faithful: bool = False) -> Target:
    return Target(
        measure=f"passages, {precision}",
        case="passages",
        figure="texts_per_s",
        ours=f"embedge-{precision}",
        theirs=theirs,
        bound=bound,
        faithful=faithful,
    )


def _at_most(measure: str, case: str, figure: str, precision: str, theirs: str, bound: float) -> Target:
    return Target(
        measure=f"{measure}, {precision}",
        case=case,
        figure=figure,
        ours=f"embedge-{precision}",
        theirs=theirs,
        bound=bound,
        side="most",
    )


def _of_model(
    model: str, texts: str, precision: str, case: str, bound: float, theirs: str = REFERENCE
) -> Target:
    return Target(
        measure=f"{MODELS[model].label}, {texts}, {precision}",
        case=case,
        figure="texts_per_s",
        ours=f"embedge-{precision}",
        theirs=theirs,
        bound=bound,
        model=model,
    )


def _long(model: str, precision: str, case: str, bound: float) -> Target:
    return _of_model(model, f"{CASES[case].max_tokens:,} tokens", precision, case, bound)


TARGETS: tuple[Target | Share | Memory, ...] = (
    _passages("fp32", REFERENCE, 1.9),
    _passages("fp32", "fastembed", 1.9),
    _passages("fp32", "openvino", 1.15),
    _passages("fp32", "ctranslate2", 1.1),
    _passages("int8", REFERENCE, 4.2),
    _passages("int8", "ctranslate2-int8", 1.3, faithful=True),
    _passages("int8", "sentence-transformers-openvino-int8", 1.3, faithful=True),
    Target(
        measure="short texts, int8",
        case="short",
        figure="texts_per_s",
        ours="embedge-int8",
        theirs="fastembed",
        bound=4.0,
    ),
    _at_most("single query p50", "query", "p50_ms", "int8", "fastembed", 0.4),
    _at_most("single query p50", "query", "p50_ms", "fp32", "fastembed", 0.85),
    _at_most("import to first vector", "start", "start_s", "int8", "fastembed", 0.35),
    _at_most("import to first vector", "start", "start_s", "int8", REFERENCE, 0.04),
    _at_most("peak RSS, single queries", "query", "peak_rss_mb", "int8", "fastembed", 0.6),
    Share(
        measure="share of the matrix-product ceiling, fp32", case="passages", ours="embedge-fp32", bound=80
    ),
    Share(
        measure="share of the matrix-product ceiling, int8", case="passages", ours="embedge-int8", bound=60
    ),
    _of_model("bert-base", "short texts", "int8", "short", 1.15, "ctranslate2-int8"),
    _of_model("bert-base", "passages", "int8", "passages", 1.2, "ctranslate2-int8"),
    _long("modernbert", "int8", "long2048", 6.0),
    _long("modernbert", "fp32", "long2048", 3.0),
    _long("qwen3", "int8", "long512", 8.0),
    _long("qwen3", "int8", "long2048", 5.0),
    *(
        Memory(
            measure=f"{MODELS['modernbert'].label}, memory of a call with one text of 8,192 tokens, {precision}",
            curve="one-modernbert",
            point=8192,
            ours=f"embedge-{precision}",
            bound=400,
        )
        for precision in ("fp32", "int8")
    ),
)


def evaluate(results: dict, operators: dict | None) -> list[Outcome]:
    """Every target with what the results hold about it."""
    return [_outcome(target, results, operators) for target in TARGETS]


def _outcome(target: Target | Share | Memory, results: dict, operators: dict | None) -> Outcome:
    if isinstance(target, Share):
        return _share(target, cases_of(results, MODEL), operators)
    if isinstance(target, Memory):
        return _memory(target, results.get("scaling", {}))
    return _ratio(target, cases_of(results, target.model))


def render(results: dict, operators: dict | None) -> str:
    """The targets as a Markdown table."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    return table(
        ["measure", "against", "target", "measured (range of the rounds)", "outcome"],
        [
            [
                outcome.target.measure,
                _against(outcome.target),
                _bound(outcome.target),
                outcome.measured,
                words[outcome.met] + (f"; {outcome.remark}" if outcome.remark else ""),
            ]
            for outcome in evaluate(results, operators)
        ],
        words=True,
    )


def _against(target: Target | Share | Memory) -> str:
    if isinstance(target, Share):
        return f"onnxruntime's own rate, {target.case}"
    if isinstance(target, Memory):
        return "what the loaded model takes"
    return SUBJECTS[target.theirs].label


def _bound(target: Target | Share | Memory) -> str:
    if isinstance(target, Share):
        return f">= {target.bound:g} %"
    if isinstance(target, Memory):
        return f"<= {target.bound:g} MB"
    sign = ">=" if target.side == "least" else "<="
    also = f", cosine mean >= {COSINE_MEAN}, min >= {COSINE_MIN}, above theirs" if target.faithful else ""
    return f"{sign} {target.bound:g}x{also}"


def _ratio(target: Target, cases: dict[str, dict]) -> Outcome:
    entry = cases.get(target.case)
    found = [] if entry is None else paired(entry, target.ours, target.theirs, target.figure)
    if entry is None or not found:
        return Outcome(target=target, measured="–", remark="", met=None)
    middle = statistics.median(found)
    met = middle >= target.bound if target.side == "least" else middle <= target.bound
    remarks = []
    if target.faithful:
        kept, remark = _fidelity(entry, target)
        met = met and kept
        remarks.append(remark)
    if len(found) < ROUNDS:
        remarks.append(f"{len(found)} of {ROUNDS} rounds")
    digits = 2 if middle >= 0.1 else 3
    low, high = (f"{value:.{digits}f}" for value in (min(found), max(found)))
    return Outcome(
        target=target,
        measured=f"{middle:.{digits}f}x ({low}–{high})",
        remark="; ".join(remarks),
        met=met,
    )


def _fidelity(entry: dict, target: Target) -> tuple[bool, str]:
    ours, theirs = (entry["subjects"][name]["agreement"] for name in (target.ours, target.theirs))
    texts = entry["texts"]["texts"]
    kept = (
        ours["cosine_mean"] >= max(COSINE_MEAN, theirs["cosine_mean"])
        and ours["cosine_min"] >= max(COSINE_MIN, theirs["cosine_min"])
        and texts >= COSINE_TEXTS
    )
    remark = (
        f"cosine mean {ours['cosine_mean']:.5f}, min {ours['cosine_min']:.5f} on {texts:,} passages "
        f"(theirs {theirs['cosine_mean']:.5f}, {theirs['cosine_min']:.5f})"
    )
    return kept, remark


def _share(target: Share, cases: dict[str, dict], operators: dict | None) -> Outcome:
    entry = cases.get(target.case)
    found = (
        None if entry is None or operators is None else roofline_share(entry, MODEL, target.ours, operators)
    )
    if found is None:
        return Outcome(target=target, measured="–", remark="", met=None)
    return Outcome(target=target, measured=f"{found:.0f} %", remark="", met=found >= target.bound)


def _memory(target: Memory, curves: dict[str, dict]) -> Outcome:
    subjects = curves.get(target.curve, {}).get("subjects", {})
    found = subjects.get(target.ours, {}).get("points", {}).get(str(target.point), {}).get("run_mb")
    if found is None:
        return Outcome(target=target, measured="–", remark="", met=None)
    return Outcome(target=target, measured=f"{found:.0f} MB", remark="", met=found <= target.bound)
