"""What embedge is held to on a GPU, and whether a results file shows it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.gpu.models import SIZES
from benchmarks.gpu.others import flop_per_token

MAIN = "bert-base"
AGAINST_TORCH = {"64x128": 4.0, "256x32": 2.6, "32x512": 1.9}
SHARES = {"64x128": 45.0, "256x128": 50.0}
OTHER_SHARES = {
    ("windows", "modernbert, base"): {"64x128": 45.0, "32x512": 40.0},
    ("decoder", "qwen3, 0.6 B"): {"64x128": 55.0, "32x512": 55.0},
}
"""Percent of the card's own rate of large half-precision matrix products."""
LABELS = {"windows": "ModernBERT-base", "decoder": "Qwen3, 0.6 B"}
CEILING = "8192x8192x8192"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A bound and what was measured.

    Attributes:
        measure: in words.
        target: the bound in words.
        measured: with its unit; "–" where nothing was measured.
        met: whether the bound is kept; None where nothing was measured.
    """

    measure: str
    target: str
    measured: str
    met: bool | None


def chosen(results: dict) -> dict:
    """Device-only figures of the form that bundles have."""
    return results.get("forms", {}).get(results["machine"]["form"], {})


def share(results: dict, shape: str, rate: float, model: str = MAIN) -> float:
    """Percent of the card's matrix-product rate that a rate in tokens a second is."""
    seq_len = int(shape.split("x")[1])
    flop = SIZES[model].flop_per_token(seq_len) if model in SIZES else flop_per_token(model, seq_len)
    return 100 * rate * flop / (1e12 * results["ceiling"][CEILING])


def evaluate(results: dict, two: dict | None) -> list[Outcome]:
    """Every target with what was measured.

    Args:
        results: of one card.
        two: of a machine with several cards, if there was one.
    """
    made: list[Outcome] = []

    def hold(
        measure: str, sign: str, bound: float, unit: str, value: float | None, digits: int = 1, note: str = ""
    ) -> None:
        kept = None if value is None else value >= bound if sign == ">=" else value <= bound
        shown = "–" if value is None else f"{value:.{digits}f}{unit}{note}"
        made.append(Outcome(measure=measure, target=f"{sign} {bound:g}{unit}", measured=shown, met=kept))

    ours = chosen(results).get("tokens_per_s", {})
    torch = results.get("torch", {}).get(MAIN, {})
    for shape, bound in AGAINST_TORCH.items():
        note = f" ({_million(ours.get(shape))} against {_million(torch.get(shape))} M tokens/s)"
        hold(
            f"device only, {_shape(shape)}, against torch float16 SDPA",
            ">=", bound, "x", _ratio(ours.get(shape), torch.get(shape)), 2, note,
        )  # fmt: skip
    for shape, bound in SHARES.items():
        known = shape in ours and CEILING in results.get("ceiling", {})
        value = share(results, shape, ours[shape]) if known else None
        hold(f"share of the card's matrix-product rate, {_shape(shape)}", ">=", bound, " %", value, 0)
    ragged = _ratio(ours.get("ragged"), ours.get("256x128"))
    hold(
        "ragged batch (256 texts of 4 to 128 tokens), real tokens/s against 256 x 128",
        ">=", 85, " %", None if ragged is None else 100 * ragged, 0,
    )  # fmt: skip
    for (part, model), bounds in OTHER_SHARES.items():
        rates = results.get(part, {}).get("fp16", {}).get("tokens_per_s", {})
        for shape, bound in bounds.items():
            known = shape in rates and CEILING in results.get("ceiling", {})
            value = share(results, shape, rates[shape], model) if known else None
            hold(
                f"share of the card's matrix-product rate, {LABELS[part]}, {_shape(shape)}",
                ">=",
                bound,
                " %",
                value,
                0,
            )
        dense = _ratio(rates.get("ragged"), rates.get("64x128"))
        hold(
            f"ragged batch, real tokens/s against 64 x 128, {LABELS[part]}",
            ">=", 85, " %", None if dense is None else 100 * dense, 0,
        )  # fmt: skip
    bulk, peer = results.get("bulk", {}), results.get("sentence_transformers", {})
    texts = bulk.get("texts_per_s", {}).get("None")
    hold(
        f"text to vectors, {bulk.get('texts', 0):,} passages, against sentence-transformers float16",
        ">=", 3, "x", _ratio(texts, peer.get("texts_per_s")), 2,
        f" ({_thousand(texts)} against {_thousand(peer.get('texts_per_s'))} texts/s)",
    )  # fmt: skip
    kept = _ratio(bulk.get("tokens_per_s", {}).get("None"), ours.get("256x128"))
    hold(
        "text to vectors, tokens/s against device only at 256 x 128",
        ">=", 70, " %", None if kept is None else 100 * kept, 0,
    )  # fmt: skip
    hold("one query, text to vector, p50", "<=", 2, " ms", results.get("query", {}).get("p50"), 2)
    cosine = results.get("fidelity", {}).get("fp16_cosine_min")
    # cut, not rounded: it is a lower bound
    hold(
        "smallest cosine to the float32 reference, BERT-base float16",
        ">=",
        0.9999,
        "",
        None if cosine is None else int(1e6 * cosine) / 1e6,
        6,
    )
    gain = None if two is None else two.get("two", {}).get("gain")
    hold("two GPUs against one, text to vectors", ">=", 1.8, "x", gain, 2)
    return made


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours / theirs


def _shape(shape: str) -> str:
    return shape.replace("x", " x ")


def _million(rate: float | None) -> str:
    return "–" if rate is None else f"{rate / 1e6:.2f}"


def _thousand(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:,.0f}"
