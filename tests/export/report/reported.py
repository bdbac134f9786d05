"""Tiny bundles with their report and card."""

from pathlib import Path

import msgspec

from embedge.manifest import load_manifest
from embedge.testing import tiny_bundle
from embedge_export.report import card
from embedge_export.report import page as report
from embedge_export.spec import ExportSpec
from embedge_export.verify.gates import try_variant
from embedge_export.verify.questions import choose_questions

KINDS = ("embed", "cross_encoder", "classify", "token_classify", "late_interaction", "sparse")


def reported(folder: Path, kind: str, **changes):
    """A tiny bundle with two variants that share a graph, its report and its card."""
    manifest = load_manifest(tiny_bundle(folder, kind, changes=changes))
    asked = choose_questions(manifest, 10**9)
    clean = {name: tuple(map(without_nan, getattr(asked, name))) for name in ("pairs", "prompts")}
    texts = {name: without_nan(getattr(asked.texts, name)) for name in ("queries", "documents")}
    asked = msgspec.structs.replace(asked, texts=msgspec.structs.replace(asked.texts, **texts), **clean)
    first = try_variant(folder, "fp32", asked, None, "torch")
    trials = {
        "fp32": try_variant(folder, "fp32", asked, first.answers, "torch"),
        "same": try_variant(folder, "fp32", asked, first.answers, "fp32"),
    }
    variant = manifest.variants["fp32"]
    variants = {
        name: msgspec.structs.replace(
            variant, fidelity=msgspec.structs.replace(variant.fidelity, end_to_end=trial.figures)
        )
        for name, trial in trials.items()
    }
    manifest = msgspec.structs.replace(manifest, variants=variants)
    spec = ExportSpec(model="org/tiny", max_seq_len=32)
    report.write_report(folder, manifest, trials, spec)
    card.write_card(folder, manifest, spec)
    return manifest, (folder / "report.html").read_text("utf-8"), (folder / "README.md").read_text("utf-8")


def without_nan(value):
    """The tiny bundles answer NaN to that word."""
    if isinstance(value, str):
        return value.lower().replace("nan", "none")
    return tuple(without_nan(part) for part in value)
