"""The variants of a bundle: one graph per precision, each judged before it may stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge._types import IntArray
from embedge.manifest import Manifest, Variant
from embedge_export import compress
from embedge_export.answers import ask_torch, questions
from embedge_export.gates import Trial, try_variant
from embedge_export.progress import part, tracked
from embedge_export.retrieval import CALIBRATION_DOCUMENTS, built_in_set
from embedge_export.texts import PAIRS, TEXTS
from embedge_export.verify import Case, verify_variant

if TYPE_CHECKING:
    import onnx

    from embedge_export.reference import Reference
    from embedge_export.tokenizer import Tokenization

# probes of a compressed graph may differ on another CPU by half as much again as they do here
_PROBE_MARGIN = 1.5


def compressed(
    graph: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Mapping[str, IntArray]]
) -> Iterator[tuple[str, onnx.ModelProto, tuple[str, ...]]]:
    """Make every variant but fp32 from the float32 graph, one at a time.

    Args:
        graph: float32, its weights inside; left as it is.
        names: of the variants asked for.
        feeds: inputs to calibrate int8 with.

    Yields:
        Name, graph, and the onnxruntime fusions that must not run on it.
    """
    if "fp16" in names:
        yield "fp16", compress.float16(graph), ()
    if "int8" in names:
        maxima = compress.calibrate(graph, feeds)
        yield "int8", compress.int8(graph, maxima), compress.INT8_DISABLED_OPTIMIZERS
    if "int4" in names:
        yield "int4", compress.int4(graph), ()


def calibration_feeds(
    graph: onnx.ModelProto, tokenization: Tokenization, *, pairs: bool
) -> list[dict[str, IntArray]]:
    """Inputs of some real texts, one text each, so that no padding is measured."""
    names = [value.name for value in graph.graph.input]
    # the gate asks the first documents, and must not meet what was calibrated on
    texts: list[tuple[str, str | None]] = [
        (text, None) for text in built_in_set().documents[-CALIBRATION_DOCUMENTS:]
    ]
    if pairs:
        texts = [*texts[: CALIBRATION_DOCUMENTS // 2], *PAIRS]
    feeds = []
    for text, document in [*texts, *((text, None) for text in TEXTS[:8])]:
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
    size = sum(manifest.files[name].size_bytes for name in (fp32.file, *fp32.data_files))
    others = [name for name in manifest.variants if name != "fp32"]
    fidelity = {"fp32": fp32.fidelity}
    with part(0.0, 0.35 if others else 0.0):
        for name in tracked(others):
            fidelity[name] = verify_variant(folder, name, cases, float("inf"))
    asked = questions(manifest, size, step_tag=step_tag, full=full)
    with part(0.35 if others else 0.0, 0.5):
        answers = ask_torch(reference, manifest, asked)
    trials: dict[str, Trial] = {}
    with part(0.5, 1.0):
        for name in tracked(["fp32", *others]):
            if name == "fp32":
                trials[name] = try_variant(folder, name, asked, answers, "torch")
            else:
                trials[name] = try_variant(folder, name, asked, trials["fp32"].answers, "fp32")
    variants = {
        name: msgspec.structs.replace(
            variant, fidelity=msgspec.structs.replace(fidelity[name], end_to_end=trials[name].figures)
        )
        for name, variant in manifest.variants.items()
    }
    return variants, trials


def probe_tolerances(variants: Mapping[str, Variant], fp32_tolerance: float) -> dict[str, float]:
    """Largest absolute difference that `embedge verify` allows each variant."""
    return {
        name: fp32_tolerance
        if name == "fp32"
        else max(fp32_tolerance, float(f"{_PROBE_MARGIN * variant.fidelity.max_abs_diff:.3g}"))
        for name, variant in variants.items()
    }


def summary(name: str, variant: Variant) -> str:
    """One variant's figures in a few words."""
    figures = variant.fidelity.end_to_end
    if figures is None:
        return f"{name}: not compared"
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
