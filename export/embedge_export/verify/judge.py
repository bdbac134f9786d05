"""Hold every variant of a written bundle against the gate of its precision, and say with which figures it passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from embedge.manifest import Manifest, Variant
from embedge_export.precisions import STORED_AS
from embedge_export.progress import part, tracked
from embedge_export.variants.cuda import gpu_here
from embedge_export.variants.openvino import openvino_runs
from embedge_export.verify.asking import ask_reference
from embedge_export.verify.gates import Trial, try_variant
from embedge_export.verify.numbers import PROBE_MARGIN, Case, verify_variant
from embedge_export.verify.questions import choose_questions
from embedge_export.verify.reference import Reference


def judge(
    folder: Path,
    manifest: Manifest,
    cases: Sequence[Case],
    reference: Reference,
    *,
    step_tag: str | None,
    full: bool,
) -> tuple[dict[str, Variant], dict[str, Trial]]:
    """Hold every variant, fp32 included, against the gate of its precision.

    Args:
        folder: the bundle as written.
        manifest: its manifest; of fp32 the fidelity is known, as it was verified already.
        cases: built-in texts with the reference's answers.
        reference: the checkpoint in float32.
        step_tag: of a process reward model.
        full: ask the whole retrieval set.

    Returns:
        The variants with their figures, and the trials that the report shows.

    Raises:
        VerificationError: a variant misses its gate.
    """
    fp32 = manifest.variants["fp32"]
    size = sum(manifest.files[name].size_bytes for name in fp32.files)
    # without a GPU, what is made for one stays unmeasured, and its fidelity says so; likewise without OpenVINO
    others = [name for name, each in manifest.variants.items() if name != "fp32" and _runs_here(each)]
    fidelity = {name: variant.fidelity for name, variant in manifest.variants.items()}
    with part(0.0, 0.35 if others else 0.0):
        for name in tracked(others):
            device = manifest.variants[name].target
            fidelity[name] = verify_variant(folder, name, cases, float("inf"), device=device)
    asked = choose_questions(
        manifest, size, step_tag=step_tag, full=full, alone=not others, answerable=reference.has_tokens
    )
    with part(0.35 if others else 0.0, 0.5):
        answers = ask_reference(reference, manifest, asked)
    reference.computation.forget()
    trials: dict[str, Trial] = {}
    with part(0.5, 1.0):
        for name in tracked(["fp32", *others]):
            first = name == "fp32"
            trials[name] = try_variant(
                folder,
                name,
                asked,
                answers if first else trials["fp32"].answers,
                reference.computation.record.name if first else "fp32",
                device=manifest.variants[name].target,
                measured=fidelity[name],
            )
    variants = {
        name: msgspec.structs.replace(
            variant,
            fidelity=msgspec.structs.replace(
                fidelity[name], end_to_end=trials[name].figures if name in trials else None
            ),
        )
        for name, variant in manifest.variants.items()
    }
    return variants, trials


def _runs_here(variant: Variant) -> bool:
    if variant.target == "openvino":
        return openvino_runs(variant)
    return variant.target == "cpu" or gpu_here()


def probe_tolerances(
    folder: Path,
    variants: Mapping[str, Variant],
    cases: Sequence[Case],
    fp32_tolerance: float,
    largest: float,
) -> dict[str, float]:
    """Largest absolute difference that `embedge verify` allows each variant: of the probes, not of odder texts.

    Args:
        folder: the bundle.
        variants: with their figures.
        cases: the probes.
        fp32_tolerance: of "fp32".
        largest: absolute value that the probes expect, which an unmeasured variant's tolerance is a share of.
    """

    def tolerance(name: str, variant: Variant) -> float:
        if variant.dtype == "float32":
            return fp32_tolerance
        if variant.fidelity.num_texts == 0:
            share = STORED_AS[variant.dtype].unmeasured_share
            assert share is not None, variant.dtype
            return max(fp32_tolerance, float(f"{share * largest:.3g}"))
        return max(fp32_tolerance, probe_tolerance(folder, name, cases, device=variant.target))

    return {name: tolerance(name, variant) for name, variant in variants.items()}


def probe_tolerance(folder: Path, variant: str, cases: Sequence[Case], *, device: str = "cpu") -> float:
    """What a variant's probes may differ by on another machine, by what they differ by on this one."""
    measured = verify_variant(folder, variant, cases, float("inf"), device=device)
    return float(f"{PROBE_MARGIN * measured.max_abs_diff:.3g}")


def summary(name: str, variant: Variant) -> str:
    """One variant's figures in a few words."""
    figures = variant.fidelity.end_to_end
    if figures is None:
        return (
            f"{name}: not compared"
            if variant.target == "cpu"
            else f"{name}: not measured, as there is no {'GPU' if variant.target == 'cuda' else 'OpenVINO'} here"
        )
    shown = [
        f"{word} {value:.4f}"
        for word, value in (
            ("end-to-end cosine min", figures.cosine_min),
            ("mean", figures.cosine_mean),
            ("rank correlation", figures.rank_correlation),
            ("label agreement", figures.label_agreement),
            ("nDCG@10", figures.ndcg_10),
        )
        if value is not None
    ]
    among = f" among {figures.num_documents} documents" if figures.ndcg_10 is not None else ""
    return f"{name}: {', '.join(shown)}{among}"
