"""`embedge export --only-verify`: compare a bundle that exists with its checkpoint again, and write nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from embedge import store
from embedge.bundle import check_files, open_bundle
from embedge.errors import VerificationError
from embedge.manifest import TOKENIZER_FILE, Manifest
from embedge_export.progress import Progress, Stages
from embedge_export.source.causal_reranker import resolve_tokens
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.read import read_checkpoint
from embedge_export.source.tokenizer import Tokenization, describe_tokenizer, load_tokenizer
from embedge_export.source.torch_model import load_model
from embedge_export.spec import ExportSpec
from embedge_export.verify.asking import ask_torch
from embedge_export.verify.gates import try_variant
from embedge_export.verify.numbers import built_in_inputs, make_cases, verify_variant
from embedge_export.verify.questions import choose_questions
from embedge_export.verify.reference import Reference


def reverify(spec: ExportSpec, progress: Progress | None = None) -> Path:
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
    with stages.stage("source"):
        checkpoint = read_checkpoint(spec)
        bundle = open_bundle(spec.output or store.bundle_path(checkpoint.repository.name))
        check_files(bundle)
        tokenizer = load_tokenizer(checkpoint)
        checkpoint = resolve_tokens(checkpoint, tokenizer, spec)
        tokenization = describe_tokenizer(tokenizer, checkpoint)
        _check_origin(bundle.manifest, checkpoint, tokenization)
        model = None if checkpoint.kind == "static" else load_model(checkpoint)
        reference = Reference(model, checkpoint, tokenization)
        cases = make_cases(reference, built_in_inputs(checkpoint)[0])
        stages.detail = (
            f"{checkpoint.repository.name}: {len(bundle.manifest.files)} files as the manifest states"
        )
    for name, variant in bundle.manifest.variants.items():
        with stages.stage(name):
            if variant.target == "cuda":
                stages.detail = "made for CUDA; `embedge verify --device cuda` replays its probes"
            elif variant.dtype == "float32":
                figures = verify_variant(bundle.folder, name, cases, checkpoint.family.max_abs_diff)
                stages.detail = f"{figures.num_texts} texts, largest difference {figures.max_abs_diff:.1e}"
            else:
                size = sum(
                    (checkpoint.repository.folder / file).stat().st_size for file in checkpoint.weights
                )
                asked = choose_questions(bundle.manifest, size, step_tag=checkpoint.step_tag)
                try_variant(bundle.folder, name, asked, ask_torch(reference, bundle.manifest, asked), "torch")
                stages.detail = "within its gates against torch"
    return bundle.folder


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
