"""Gates: how far a variant's answers may be from float32, and the figures that it passed with.

To let a variant through, when the bundle with its graph is on disk:

    asked = choose_questions(manifest, size_bytes)              # once per export
    answers = ask_reference(reference, manifest, asked)
    trial = try_variant(folder, "fp32", asked, answers, reference.computation.record.name)
    trial = try_variant(folder, "int8", asked, trial.answers, "fp32")

`try_variant` opens the variant, asks it, measures, and raises VerificationError where a figure misses the gate of the
variant's dtype. `trial.figures` goes into `Fidelity.end_to_end`; `trial.answers` is what later variants and the report
compare with. With a model that is open already: `measure(model, asked, reference, "fp32")`, then `check`.

The reference answers the first 32 texts only: it takes one text at a time, and all 600 would double the export's time.
The fp32 variant, which differs from it by rounding alone, is the reference for every other one on all texts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import msgspec

from embedge import EdgeModel
from embedge.errors import EmbedgeError, VerificationError
from embedge.manifest import Dtype, EndToEnd, Fidelity, load_manifest
from embedge_export.memory import given_back
from embedge_export.precisions import Comparison, gates_of
from embedge_export.verify.asking import Answers, ask
from embedge_export.verify.comparison import compare
from embedge_export.verify.figures import FIGURES
from embedge_export.verify.questions import Questions

EXACT = 1e-6
"""Answers that differ by no more from one batch to another are the same: float32 sums, taken in another order."""

_JUDGED_NDCG = 0.2


class Trial(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A variant that passed: what it was asked, its answers, what they were compared with, and the figures."""

    asked: Questions
    figures: EndToEnd
    answers: Answers
    reference: Answers | None


@given_back()
def try_variant(
    folder: Path,
    variant: str,
    asked: Questions,
    reference: Answers | None,
    reference_name: Literal["torch", "numpy", "fp32"],
    *,
    device: str = "cpu",
    measured: Fidelity | None = None,
    judged: bool = True,
) -> Trial:
    """Open a variant, ask, measure and judge it.

    Args:
        folder: the bundle on disk, its manifest naming the variant.
        variant: its name.
        asked: the questions.
        reference: the reference's answers to all of them, or the first few; None to measure without comparing.
        reference_name: whose they are.
        device: where to run it.
        judged: False measures without a gate.
        measured: what its single numbers were found to be; a vector that is worse than those asked for here counts.

    Raises:
        VerificationError: a figure misses its gate, or the variant cannot answer.
    """
    try:
        start_s = time.perf_counter()
        with EdgeModel(folder, device=device, variant=variant) as model:
            load_s = time.perf_counter() - start_s
            figures, answers = measure(model, asked, reference, reference_name, load_s)
    except VerificationError:
        raise
    except EmbedgeError as error:
        raise VerificationError(f"variant {variant} could not be judged: {error}") from error
    figures = _with_worst(figures, measured)
    if judged:
        check(variant, load_manifest(folder).variants[variant].dtype, asked.comparison, figures)
    return Trial(asked=asked, figures=figures, answers=answers, reference=reference)


def measure(
    model: EdgeModel,
    asked: Questions,
    reference: Answers | None,
    reference_name: Literal["torch", "numpy", "fp32"],
    load_s: float | None = None,
) -> tuple[EndToEnd, Answers]:
    """Ask an open model, and compare its answers; nothing is judged. Arguments are those of `try_variant`."""
    answers = ask(model, asked, load_s)
    figures = EndToEnd(
        reference=reference_name,
        num_compared=0 if reference is None else len(reference.rows),
        texts_sha256=asked.texts.sha256,
        batch_invariance="exact" if answers.max_batch_diff <= EXACT else "batch-dependent",
        max_batch_diff=answers.max_batch_diff,
    )
    return compare(figures, model.manifest, asked, answers, reference), answers


def check(variant: str, dtype: Dtype, comparison: Comparison, figures: EndToEnd) -> None:
    """Hold a variant's figures against its gate.

    Raises:
        VerificationError: one is missed, NaN included; the message has all that are.
    """
    gate = gates_of(variant, dtype)[comparison]
    missed = []
    for name, figure in FIGURES.items():
        value, limit = getattr(figures, name), getattr(gate, name, None)
        if value is None or limit is None or (name == "top_10_overlap" and not _finds_answers(figures)):
            continue
        if figure.sign == "≥" and not value >= limit:
            missed.append(f"{figure.words} {value:.5f}, at least {limit:g} expected")
        elif figure.sign == "≤" and not value <= limit:
            missed.append(f"{figure.words} {value:.2e}, at most {limit:g} expected")
    if gate.ndcg_10_loss is not None and _finds_answers(figures):
        assert figures.ndcg_10 is not None
        assert figures.reference_ndcg_10 is not None
        loss = 1 - figures.ndcg_10 / figures.reference_ndcg_10
        if not loss <= gate.ndcg_10_loss:
            missed.append(
                f"nDCG@10 {figures.ndcg_10:.4f} is {loss:.1%} below {figures.reference_ndcg_10:.4f}, "
                f"at most {gate.ndcg_10_loss:.1%} expected"
            )
    if missed:
        raise VerificationError(
            f"variant {variant} ({dtype}) misses its gate against {figures.reference}: {'; '.join(missed)}. "
            "Nothing was written. Leave the variant out, or choose another precision."
        )


def _with_worst(figures: EndToEnd, measured: Fidelity | None) -> EndToEnd:
    """Figures whose smallest cosine is that of every text that was compared with any reference."""
    if measured is None or measured.cosine_min is None or figures.cosine_min is None:
        return figures
    return msgspec.structs.replace(figures, cosine_min=min(figures.cosine_min, measured.cosine_min))


def _finds_answers(figures: EndToEnd) -> bool:
    """Whether there is an order to keep: a model that finds next to no answer in float32 ranks by chance."""
    return figures.reference_ndcg_10 is not None and figures.reference_ndcg_10 >= _JUDGED_NDCG
