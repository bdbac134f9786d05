"""`embedge export --only-verify`: compare a bundle that exists with its checkpoint again, and write nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from embedge import store
from embedge.bundle import Bundle, check_files, open_bundle
from embedge.errors import VerificationError
from embedge.manifest import TOKENIZER_FILE, Manifest
from embedge_export.progress import Listener, Stages
from embedge_export.source.checkpoint import Checkpoint, weight_sizes
from embedge_export.source.read import open_checkpoint
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.weights import load_weights
from embedge_export.spec import ExportSpec
from embedge_export.verify.asking import ask_torch
from embedge_export.verify.gates import try_variant
from embedge_export.verify.numbers import Case, built_in_inputs, make_cases, verify_variant
from embedge_export.verify.questions import choose_questions
from embedge_export.verify.reference import Reference
from embedge_export.verify.witness.call import call_witness


class _Opened(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The bundle, and the checkpoint's own answers."""

    bundle: Bundle
    checkpoint: Checkpoint
    reference: Reference
    cases: Sequence[Case]


def reverify(spec: ExportSpec, progress: Listener | None = None) -> Path:
    """Verify every variant of a bundle against the checkpoint that it was made from.

    Args:
        spec: the checkpoint, and the bundle as its output.
        progress: told how far it is.

    Returns:
        The bundle's folder.

    Raises:
        BundleError: the bundle is not there, or a file of it was changed.
        ExportError: the checkpoint cannot be read.
        VerificationError: the bundle is of another checkpoint, or computes something else.
    """
    stages = Stages(progress)
    opened = stages.run("source", _open, spec)
    for name in opened.bundle.manifest.variants:
        stages.run(name, _verify, name, opened)
    if float32 := _float32(opened.bundle.manifest):
        stages.run("witness", _ask_witness, float32, opened, spec)
    return opened.bundle.folder


def _open(spec: ExportSpec) -> tuple[_Opened, str]:
    source = open_checkpoint(spec)
    checkpoint = source.checkpoint
    name = checkpoint.repository.name
    bundle = open_bundle(spec.output or store.bundle_path(name))
    check_files(bundle)
    _check_origin(bundle.manifest, checkpoint, source.tokenization)
    reference = Reference(load_weights(checkpoint), checkpoint, source.tokenization)
    cases = make_cases(reference, built_in_inputs(checkpoint)[0])
    opened = _Opened(bundle=bundle, checkpoint=checkpoint, reference=reference, cases=cases)
    return opened, f"{name}: {len(bundle.manifest.files)} files as the manifest states"


def _verify(name: str, opened: _Opened) -> tuple[None, str]:
    bundle, checkpoint = opened.bundle, opened.checkpoint
    variant = bundle.manifest.variants[name]
    if variant.target == "cuda":
        return None, "made for CUDA; `embedge verify --device cuda` replays its probes"
    if variant.dtype == "float32":
        figures = verify_variant(bundle.folder, name, opened.cases, checkpoint.family.max_abs_diff)
        return None, f"{figures.num_texts} texts, largest difference {figures.max_abs_diff:.1e}"
    size = sum(weight_sizes(checkpoint).values())
    asked = choose_questions(bundle.manifest, size, step_tag=checkpoint.step_tag)
    try_variant(bundle.folder, name, asked, ask_torch(opened.reference, bundle.manifest, asked), "torch")
    return None, "within its gates against torch"


def _float32(manifest: Manifest) -> str | None:
    variants = manifest.variants.items()
    return next((name for name, each in variants if each.dtype == "float32" and each.target == "cpu"), None)


def _ask_witness(name: str, opened: _Opened, spec: ExportSpec) -> tuple[None, str]:
    return None, call_witness(opened.bundle.folder, opened.checkpoint, spec, name).words


def _check_origin(manifest: Manifest, checkpoint: Checkpoint, tokenization: Tokenization) -> None:
    stated = manifest.source.weights_sha256
    for name in sorted({*stated, *checkpoint.weights}):
        if stated.get(name) != checkpoint.weights.get(name):
            raise VerificationError(
                f"the bundle was not made from these weights: {name} has sha256 "
                f"{(checkpoint.weights.get(name) or 'none')[:12]}, the manifest states "
                f"{(stated.get(name) or 'none')[:12]}. Pass the checkpoint that it came from, or export again."
            )
    if manifest.files[TOKENIZER_FILE].sha256 != hashlib.sha256(tokenization.file).hexdigest():
        raise VerificationError(
            "the bundle's tokenizer.json is not what this checkpoint gives; expected the same one. "
            "Pass the checkpoint that the bundle came from, or export again."
        )
    facts = {
        "pooling": (manifest.pooling, checkpoint.pooling),
        "normalize": (manifest.normalize, checkpoint.normalize),
        "max_seq_len": (manifest.max_seq_len, tokenization.max_seq_len),
        "prompts": (manifest.prompts, checkpoint.prompts),
        "head": (manifest.head, checkpoint.head),
    }
    for name, (ours, theirs) in facts.items():
        if ours != theirs:
            raise VerificationError(
                f"{name} of the bundle is {ours!r}, the checkpoint and flags give {theirs!r}; expected the same. "
                "Pass the flags that the bundle was exported with, or export again."
            )
