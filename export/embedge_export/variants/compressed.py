"""The variants of a bundle: one graph per precision, each judged before it may stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge.manifest import Dtype, Manifest, Variant
from embedge.runtime import EXACT_INT8
from embedge.types import IntArray
from embedge_export.progress import part, tracked
from embedge_export.texts.built_in import PAIRS, TEXTS
from embedge_export.texts.retrieval import CALIBRATION_DOCUMENTS, built_in_set
from embedge_export.variants import compress, int8
from embedge_export.variants.cuda import gpu_here
from embedge_export.variants.editor import GraphEditor
from embedge_export.verify.asking import ask_torch, questions
from embedge_export.verify.gates import Trial, try_variant
from embedge_export.verify.numbers import Case, verify_variant

if TYPE_CHECKING:
    import onnx

    from embedge_export.source.tokenizer import Tokenization
    from embedge_export.verify.reference import Reference

# probes of a compressed graph may differ on another CPU by half as much again as they do here
_PROBE_MARGIN = 1.5
# the gate's smallest cosine, 0.9999 or 0.995, allows a difference of 1.4 or 10 % of the vector's length, most of it in
# its large components
_UNMEASURED_SHARES: dict[Dtype, float] = {"float16": 0.01, "bfloat16": 0.07}


class Compressed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A graph of a smaller precision.

    Attributes:
        name: of the variant.
        graph: its weights inside.
        disabled_optimizers: onnxruntime's fusions that must not run on it.
        needs: CPU features that it needs.
        forms: of its products, where they have several, in words.
    """

    name: str
    graph: onnx.ModelProto
    disabled_optimizers: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    forms: dict[str, int] = msgspec.field(default_factory=dict)


def compressed(
    graph: Path, names: Sequence[str], feeds: Sequence[Mapping[str, IntArray]]
) -> Iterator[Compressed]:
    """Make every variant but fp32 from the float32 graph, one at a time.

    Args:
        graph: file of the float32 graph.
        names: of the variants asked for.
        feeds: inputs to calibrate int8 with.
    """
    if "fp16" in names:
        yield Compressed(name="fp16", graph=compress.float16(GraphEditor.open(graph)))
    if "int8" in names or "uint8" in names:
        activations = int8.calibrate(graph, feeds)
        for name in ("int8", "uint8"):
            if name in names:
                made = int8.int8(GraphEditor.open(graph), activations, unsigned=name == "uint8")
                yield Compressed(
                    name=name,
                    graph=made.graph,
                    disabled_optimizers=int8.DISABLED_OPTIMIZERS,
                    needs=() if name == "uint8" else (EXACT_INT8,),
                    forms={str(form): count for form, count in made.forms.items()},
                )
    if "int4" in names:
        yield Compressed(name="int4", graph=compress.int4(GraphEditor.open(graph)))


def calibration_feeds(
    names: Sequence[str], tokenization: Tokenization, *, pairs: bool
) -> list[dict[str, IntArray]]:
    """Inputs of these names of some real texts, one text each, so that no padding is measured."""
    # the gate asks the first documents, and must not meet what was calibrated on
    documents = built_in_set().documents[-CALIBRATION_DOCUMENTS:]
    texts: list[tuple[str, str | None]] = [(text, None) for text in documents]
    if pairs:
        texts = [*texts[: CALIBRATION_DOCUMENTS // 2], *PAIRS]
    # a word that attends to little but itself goes beyond what a document's average
    beginnings = [" ".join(text.split()[: 1 + i % 4]) for i, text in enumerate(documents)]
    feeds = []
    for text, document in [*texts, *((text, None) for text in (*TEXTS[:8], *beginnings))]:
        encoding = tokenization.encode(text, document)
        count = len(encoding["input_ids"])
        if not count:
            continue
        known = {
            "attention_mask": [1] * count,
            "token_type_ids": [0] * count,
            "position_ids": list(range(count)),
            **encoding,
        }
        feeds.append({name: np.asarray([known[name]], dtype=np.int64) for name in names})
    return feeds


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
        reference: the checkpoint in torch.
        step_tag: of a process reward model.
        full: ask the whole retrieval set.

    Returns:
        The variants with their figures, and the trials that the report shows.

    Raises:
        VerificationError: a variant misses its gate.
    """
    fp32 = manifest.variants["fp32"]
    size = sum(manifest.files[name].size_bytes for name in fp32.files)
    # without a GPU, what is made for one stays unmeasured, and its fidelity says so
    others = [
        name
        for name, each in manifest.variants.items()
        if name != "fp32" and (each.target == "cpu" or gpu_here())
    ]
    fidelity = {name: variant.fidelity for name, variant in manifest.variants.items()}
    with part(0.0, 0.35 if others else 0.0):
        for name in tracked(others):
            device = manifest.variants[name].target
            fidelity[name] = verify_variant(folder, name, cases, float("inf"), device=device)
    asked = questions(manifest, size, step_tag=step_tag, full=full)
    with part(0.35 if others else 0.0, 0.5):
        answers = ask_torch(reference, manifest, asked)
    trials: dict[str, Trial] = {}
    with part(0.5, 1.0):
        for name in tracked(["fp32", *others]):
            if name == "fp32":
                trials[name] = try_variant(folder, name, asked, answers, "torch")
            else:
                device = manifest.variants[name].target
                trials[name] = try_variant(folder, name, asked, trials["fp32"].answers, "fp32", device=device)
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


def probe_tolerances(
    variants: Mapping[str, Variant], fp32_tolerance: float, largest: float
) -> dict[str, float]:
    """Largest absolute difference that `embedge verify` allows each variant.

    Args:
        variants: with their figures.
        fp32_tolerance: of "fp32".
        largest: absolute value that the probes expect, which an unmeasured variant's tolerance is a share of.
    """

    def tolerance(variant: Variant) -> float:
        if variant.dtype == "float32":
            return fp32_tolerance
        if variant.fidelity.num_texts == 0:
            return max(fp32_tolerance, float(f"{_UNMEASURED_SHARES[variant.dtype] * largest:.3g}"))
        return max(fp32_tolerance, float(f"{_PROBE_MARGIN * variant.fidelity.max_abs_diff:.3g}"))

    return {name: tolerance(variant) for name, variant in variants.items()}


def summary(name: str, variant: Variant) -> str:
    """One variant's figures in a few words."""
    figures = variant.fidelity.end_to_end
    if figures is None:
        return (
            f"{name}: not measured, as there is no GPU here"
            if variant.target == "cuda"
            else f"{name}: not compared"
        )
    shown = [
        f"{word} {value:.4f}"
        for word, value in (
            ("cosine min", figures.cosine_min),
            ("mean", figures.cosine_mean),
            ("rank correlation", figures.rank_correlation),
            ("label agreement", figures.label_agreement),
            ("nDCG@10", figures.ndcg_10),
        )
        if value is not None
    ]
    return f"{name}: {', '.join(shown)}"
