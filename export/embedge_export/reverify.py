"""`embedge export --only-verify`: compare a bundle with its checkpoint again, and note what is new in its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from embedge import store
from embedge.bundle import Bundle, check_files, open_bundle
from embedge.errors import ExportError, VerificationError
from embedge.manifest import (
    TOKENIZER_FILE,
    EndToEnd,
    Fidelity,
    Manifest,
    ReferenceRecord,
    Variant,
    WitnessRecord,
)
from embedge_export.progress import Listener, Stages
from embedge_export.source.checkpoint import Checkpoint, weight_sizes
from embedge_export.source.libraries import is_light
from embedge_export.source.read import open_checkpoint
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.weights import load_weights
from embedge_export.spec import ExportSpec
from embedge_export.verify.asking import ask_reference
from embedge_export.verify.gates import try_variant
from embedge_export.verify.numbers import Case, built_in_inputs, make_cases, verify_variant
from embedge_export.verify.questions import choose_questions
from embedge_export.verify.reference import Reference, open_reference
from embedge_export.verify.witness.call import call_witness
from embedge_export.write.manifest import replace_manifest


class _Opened(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The bundle, and the checkpoint's own answers."""

    bundle: Bundle
    checkpoint: Checkpoint
    reference: Reference
    cases: Sequence[Case]


def reverify(spec: ExportSpec, progress: Listener | None = None, *, write: bool = True) -> Path:
    """Verify every variant of a bundle against the checkpoint that it was made from.

    What was computed in numpy alone, or without the checkpoint's own library, is stated anew in manifest.json where
    torch or the library took part this time. The fingerprint covers neither, and no other file of the bundle changes:
    report.html and README.md stay what they were at export.

    Args:
        spec: the checkpoint, and the bundle as its output.
        progress: told how far it is.
        write: False leaves the manifest as it is.

    Returns:
        The bundle's folder.

    Raises:
        BundleError: the bundle is not there, or a file of it was changed.
        ExportError: the checkpoint cannot be read, or the manifest not be written.
        VerificationError: the bundle is of another checkpoint, or computes something else.
    """
    _refuse_towers(spec)
    stages = Stages(progress)
    opened = stages.run("source", _open, spec)
    manifest = opened.bundle.manifest
    measured = {name: stages.run(name, _verify, name, opened) for name in manifest.variants}
    witness: WitnessRecord | None = None
    if float32 := _float32(manifest):
        witness = stages.run("witness", _ask_witness, float32, opened, spec)
    stages.run("manifest", _note, opened, measured, witness, write)
    return opened.bundle.folder


def _refuse_towers(spec: ExportSpec) -> None:
    if spec.output is None:
        return
    manifest = open_bundle(spec.output).manifest
    if manifest.towers:
        raise ExportError(
            f"{spec.output} holds all towers of a model ({', '.join((str(manifest.tower), *manifest.towers))}), which "
            "are compared with the checkpoint while they are exported; expected a bundle of one tower, or of a model "
            "without any. Export it again; `embedge verify` replays the probes of all towers."
        )


def _open(spec: ExportSpec) -> tuple[_Opened, str]:
    source = open_checkpoint(spec)
    checkpoint = source.checkpoint
    name = checkpoint.repository.name
    bundle = open_bundle(spec.output or store.bundle_path(name))
    check_files(bundle)
    _check_origin(bundle.manifest, checkpoint, source.tokenization)
    light = is_light(spec)
    weights = load_weights(checkpoint, with_model=not light)
    reference = open_reference(weights, checkpoint, source.tokenization, light=light)
    cases = make_cases(reference, built_in_inputs(checkpoint)[0])
    opened = _Opened(bundle=bundle, checkpoint=checkpoint, reference=reference, cases=cases)
    return opened, f"{name}: {len(bundle.manifest.files)} files as the manifest states"


def _verify(name: str, opened: _Opened) -> tuple[Fidelity | None, str]:
    """Hold a variant against its gate; its figures, where it ran here."""
    bundle, checkpoint, reference = opened.bundle, opened.checkpoint, opened.reference
    variant = bundle.manifest.variants[name]
    if variant.target == "cuda":
        return None, "made for CUDA; `embedge verify --device cuda` replays its probes"
    if variant.target == "openvino":
        return None, "made for OpenVINO; `embedge verify --device openvino` replays its probes"
    exact = variant.dtype == "float32"
    gate = checkpoint.family.max_abs_diff if exact else float("inf")
    fidelity = verify_variant(bundle.folder, name, opened.cases, gate)
    size = sum(weight_sizes(checkpoint).values())
    alone = len(bundle.manifest.variants) == 1 and exact
    asked = choose_questions(
        bundle.manifest, size, step_tag=checkpoint.step_tag, alone=alone, answerable=reference.has_tokens
    )
    answers, computed_in = ask_reference(reference, bundle.manifest, asked), reference.computation.record.name
    figures = try_variant(bundle.folder, name, asked, answers, computed_in, measured=fidelity).figures
    end_to_end = _at_export(variant, figures)
    words = f"{fidelity.num_texts} texts, largest difference from {computed_in} {fidelity.max_abs_diff:.1e}"
    return msgspec.structs.replace(fidelity, end_to_end=end_to_end), (
        words if exact else f"{words}, within its gates"
    )


def _at_export(variant: Variant, figures: EndToEnd) -> EndToEnd | None:
    """The figures that a variant's gate was judged by: those against fp32 are of all texts, and stay."""
    before = variant.fidelity.end_to_end
    return before if before is None or before.reference == "fp32" else figures


def _float32(manifest: Manifest) -> str | None:
    variants = manifest.variants.items()
    return next((name for name, each in variants if each.dtype == "float32" and each.target == "cpu"), None)


def _ask_witness(name: str, opened: _Opened, spec: ExportSpec) -> tuple[WitnessRecord, str]:
    record = call_witness(opened.bundle.folder, opened.checkpoint, spec, name)
    return record, record.words


def _note(
    opened: _Opened,
    measured: dict[str, Fidelity | None],
    witness: WitnessRecord | None,
    write: bool,
) -> tuple[None, str]:
    """State in the manifest what the bundle was not compared with before."""
    stated = opened.bundle.manifest
    changed, news = stated, []
    reference = opened.reference.computation.record
    if _is_better(reference, stated.reference):
        variants = {
            name: variant
            if (fidelity := measured[name]) is None
            else msgspec.structs.replace(variant, fidelity=fidelity)
            for name, variant in stated.variants.items()
        }
        changed = msgspec.structs.replace(changed, reference=reference, variants=variants)
        news.append(reference.words)
    if witness is not None and witness.reason is None and not _was_asked(stated.witness):
        changed = msgspec.structs.replace(changed, witness=witness)
        news.append(f"{witness.door} of {next(iter(witness.versions))}")
    if not news:
        return None, f"left as it is: compared before with {_before(stated)}, and with nothing better now"
    if not write:
        return None, f"left as it is, as --dry-run asks; it would state {' and '.join(news)}"
    replace_manifest(changed, opened.bundle.folder)
    return None, f"states {' and '.join(news)} now; fingerprint {changed.fingerprint[:12]} as before"


def _is_better(reference: ReferenceRecord, before: ReferenceRecord | None) -> bool:
    """Whether the checkpoint's own class in torch answered, and had not before."""
    return reference.name == "torch" and (before is None or before.name == "numpy")


def _was_asked(witness: WitnessRecord | None) -> bool:
    return witness is not None and witness.reason is None


def _before(manifest: Manifest) -> str:
    stated = "answers in a file" if manifest.reference is None else manifest.reference.words
    if manifest.witness is None or manifest.witness.reason is not None:
        return f"{stated}, without the checkpoint's own library"
    return f"{stated} and {manifest.witness.door} of {next(iter(manifest.witness.versions))}"


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
