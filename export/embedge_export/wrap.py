"""`embedge export --from-onnx`: a bundle around an existing ONNX file, verified against a reference, probes or both."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge import store
from embedge.bundle import sha256_file
from embedge.errors import ExportError, VerificationError
from embedge.manifest import (
    TOKENIZER_FILE,
    UNMEASURED,
    Dtype,
    Fidelity,
    GraphSpec,
    Manifest,
    Probes,
    Variant,
    WitnessRecord,
    load_manifest,
)
from embedge_export.families.parts import UnsupportedError
from embedge_export.graph.attention import score_heads
from embedge_export.graph.given import adapt, load_graph
from embedge_export.graph.given_form import check_wraps, needs, precision
from embedge_export.precisions import VARIANTS
from embedge_export.progress import Listener, Stages
from embedge_export.source.checkpoint import Checkpoint, weight_sizes
from embedge_export.source.checksums import check_unchanged
from embedge_export.source.embedder import Embedder
from embedge_export.source.libraries import is_light
from embedge_export.source.read import open_checkpoint
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.weights import LoadedWeights, load_weights
from embedge_export.spec import ExportSpec, expanded
from embedge_export.verify.asking import ask_reference
from embedge_export.verify.gates import try_variant
from embedge_export.verify.given_probes import GivenProbes, as_cases, compare_embeddings, read_probes
from embedge_export.verify.judge import probe_tolerance
from embedge_export.verify.numbers import (
    built_in_inputs,
    fp32_probe_tolerance,
    largest_expected,
    make_cases,
    make_probes,
    verify_variant,
)
from embedge_export.verify.questions import choose_questions
from embedge_export.verify.reference import Reference, open_reference
from embedge_export.verify.witness.call import call_witness
from embedge_export.write.companions import note_external_data, write_companions
from embedge_export.write.graph_files import save_graph
from embedge_export.write.manifest import (
    PACKAGES,
    complete_manifest,
    make_manifest,
    require_packages,
    save_modules,
    write_manifest,
    write_probes,
)
from embedge_export.write.staging import choose_target, staging

if TYPE_CHECKING:
    import onnx

_ANY = float(np.finfo(np.float32).max)
"""A gate that every number passes, and neither NaN nor an answer of another shape."""


class _Opened(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The checkpoint, what is where in the ONNX file's graph, and what it is compared with."""

    checkpoint: Checkpoint
    tokenization: Tokenization
    weights: LoadedWeights
    target: Path
    file: Path
    outputs: GraphSpec
    variant: str
    dtype: Dtype
    reference: Reference | None
    given: GivenProbes | None


def wrap(spec: ExportSpec, progress: Listener | None = None) -> Path:
    """Make a bundle of `spec.from_onnx` and the checkpoint's config and tokenizer, or leave nothing behind.

    Where the checkpoint's weights are there, they are the reference, in torch or in numpy, as for any export;
    `spec.probes` serve where there is none, and are compared as well where both are there.

    Returns:
        The bundle's folder.

    Raises:
        ExportError: the file does not fit the checkpoint, or there is nothing to verify it with.
        VerificationError: it computes something else than the reference or the probes state.
        MissingExtraError: a package of the exporter other than torch and optimum is not installed.
    """
    if spec.from_onnx is None:
        raise ExportError("from_onnx is missing; expected an ONNX file to wrap")
    require_packages(PACKAGES)
    stages = Stages(progress)
    opened, graph = stages.run("source", _open, spec, expanded(spec.from_onnx).absolute())
    with staging(opened.target, opened.file.stat().st_size * 2 + 5_000_000, force=spec.force) as folder:
        draft = stages.run("write", _write, opened, graph, folder)
        del graph
        fidelity, probes = stages.run("verify", _verify, opened, spec, folder)
        witness = stages.run("witness", _ask_witness, opened, spec, folder, fidelity)
        write_probes(probes, folder)
        measured = msgspec.structs.replace(draft.variants[opened.variant], fidelity=fidelity)
        reference = None if opened.reference is None else opened.reference.computation.record
        manifest = complete_manifest(draft, {opened.variant: measured}, reference, witness, folder)
        write_manifest(manifest, folder)
        store.commit(folder, opened.target)
    stages.finish(f"{opened.target.name}, fingerprint {manifest.fingerprint[:12]}")
    return opened.target


def _open(spec: ExportSpec, file: Path) -> tuple[tuple[_Opened, onnx.ModelProto], str]:
    """Read the checkpoint, and bring the file's graph into embedge's form."""
    source = open_checkpoint(spec)
    checkpoint, tokenization = source.checkpoint, source.tokenization
    check_wraps(checkpoint)
    target = choose_target(spec, checkpoint.repository.name)
    given = None if spec.probes is None else read_probes(spec.probes)
    light, has_weights = is_light(spec), _has_weights(checkpoint)
    graph = load_graph(file)
    weights = load_weights(checkpoint, with_model=has_weights and not light)
    graph, outputs = adapt(graph, checkpoint, weights, file, spec.output_name)
    if outputs.hidden is None and isinstance(checkpoint.what, Embedder):
        checkpoint = msgspec.structs.replace(checkpoint, tasks=("embed",))
    reference = None
    if has_weights:
        with contextlib.suppress(UnsupportedError):  # numpy does not know every network
            reference = open_reference(weights, checkpoint, tokenization, light=light)
    if reference is None and given is None:
        raise ExportError(
            f"there is nothing to verify {file.name} with: the checkpoint has no weights here, or they need torch, "
            'which is not installed; expected either. Pass --probes FILE, a JSON list of {"text": …, "embedding": […]}.'
        )
    variant, dtype = precision(graph)
    opened = _Opened(
        checkpoint=checkpoint,
        tokenization=tokenization,
        weights=weights,
        target=target,
        file=file,
        outputs=outputs,
        variant=variant,
        dtype=dtype,
        reference=reference,
        given=given,
    )
    detail = f"{checkpoint.repository.name}: {file.name}, {dtype}, {', '.join(checkpoint.tasks)}"
    return (opened, graph), detail


def _write(opened: _Opened, graph: onnx.ModelProto, folder: Path) -> tuple[Manifest, str]:
    """Write everything that a bundle needs to be loaded."""
    checkpoint, tokenization, file = opened.checkpoint, opened.tokenization, opened.file
    (folder / TOKENIZER_FILE).write_bytes(tokenization.file)
    write_companions(checkpoint, tokenization, folder)
    needed = needs(graph)  # before its weights are gone from it
    written, data_files = save_graph(graph, folder, VARIANTS[opened.variant].stem)
    note_external_data(folder)
    variant = Variant(
        file=written,
        data_files=data_files,
        dtype=opened.dtype,
        fidelity=UNMEASURED,
        needs=needed,
        score_heads=score_heads(graph, checkpoint.num_attention_heads),
    )
    dense = save_modules(checkpoint, opened.weights, folder)
    origin = {file.name: sha256_file(file), **checkpoint.weights}
    stated = msgspec.structs.replace(checkpoint, weights=origin)
    variants = {opened.variant: variant}
    manifest = make_manifest(stated, tokenization, opened.outputs, dense, variants, folder)
    write_manifest(manifest, folder)
    outputs = opened.outputs.pooled or opened.outputs.token
    return manifest, f"{len(manifest.files) + 1} files, outputs {outputs}"


def _verify(opened: _Opened, spec: ExportSpec, folder: Path) -> tuple[tuple[Fidelity, Probes], str]:
    """Hold the file against its gate, or say by how much it misses the gate where the caller wants it all the same."""
    try:
        return _measure(opened, folder, judged=True)
    except VerificationError as error:
        if not spec.accept_worse:
            raise VerificationError(
                f"{error} --accept-worse wraps the file as it is; the manifest then says so."
            ) from error
        missed = str(error).partition(". Nothing was written")[0]
    (fidelity, probes), detail = _measure(opened, folder, judged=False)
    return (msgspec.structs.replace(fidelity, accepted=missed), probes), f"{detail}; accepted though {missed}"


def _measure(opened: _Opened, folder: Path, *, judged: bool) -> tuple[tuple[Fidelity, Probes], str]:
    """Compare with the probes, the reference, or both; the reference's figures and answers are kept."""
    checkpoint, name = opened.checkpoint, opened.variant
    measured: list[tuple[Fidelity, Probes]] = []
    details = []
    if opened.given is not None:
        measured.append(_compare(folder, opened, opened.given, judged=judged))
        details.append(_figures(measured[-1][0], "probes"))
    if opened.reference is not None:
        measured.append(_judge(folder, opened, opened.reference, judged=judged))
        name_of_it = opened.reference.computation.record.name
        details.append(_figures(measured[-1][0], f"texts against {name_of_it}"))
    check_unchanged(checkpoint)
    return measured[-1], f"{name}: largest difference on {' and on '.join(details)}"


def _ask_witness(
    opened: _Opened, spec: ExportSpec, folder: Path, fidelity: Fidelity
) -> tuple[WitnessRecord, str]:
    """Ask the checkpoint's own library, where it is there and the file's numbers are meant to be its own."""
    if opened.reference is None:
        record = WitnessRecord(
            reason="the checkpoint has no weights here, or they need torch, which is not installed"
        )
    elif fidelity.accepted is not None:
        record = WitnessRecord(reason="the file was accepted though its numbers are not the checkpoint's")
    elif opened.dtype != "float32":
        record = WitnessRecord(
            reason=f"the file is {opened.dtype}, which is held against the reference alone"
        )
    else:
        record = call_witness(folder, opened.checkpoint, spec, opened.variant)
    return record, record.words


def _figures(fidelity: Fidelity, what: str) -> str:
    return f"{fidelity.num_texts} {what}, {fidelity.max_abs_diff:.1e}"


def _has_weights(checkpoint: Checkpoint) -> bool:
    """Whether the transformer's weights are here."""
    folder = checkpoint.repository.folder
    return any((folder / name).parent == checkpoint.transformer for name in checkpoint.weights)


def _compare(folder: Path, opened: _Opened, given: GivenProbes, *, judged: bool) -> tuple[Fidelity, Probes]:
    """Compare with the given probes, and make the bundle's own of them."""
    checkpoint, name = opened.checkpoint, opened.variant
    tolerance = given.tolerance(name, opened.dtype)
    gate = tolerance if judged else _ANY
    if given.texts:
        if "embed" not in checkpoint.tasks:
            raise ExportError(
                f"the probes are embeddings, and the model is for {', '.join(checkpoint.tasks)}; expected "
                "probes in the form of a bundle's probes.json"
            )
        fidelity, cases = compare_embeddings(folder, name, given.texts, gate)
        return fidelity, Probes(tolerances={name: tolerance}, probes=make_probes(cases))
    cases = as_cases(given.probes, checkpoint)
    fidelity = verify_variant(folder, name, cases, gate, in_proportion=False)
    if not judged:
        tolerance = max(tolerance, probe_tolerance(folder, name, cases))
    return fidelity, Probes(tolerances={name: tolerance}, probes=given.probes)


def _judge(folder: Path, opened: _Opened, reference: Reference, *, judged: bool) -> tuple[Fidelity, Probes]:
    """Compare with the reference: every number of float32, and what users notice of the others."""
    checkpoint, name = opened.checkpoint, opened.variant
    inputs, probe_inputs = built_in_inputs(checkpoint)
    cases = make_cases(reference, inputs)
    exact = judged and opened.dtype == "float32"
    fidelity = verify_variant(folder, name, cases, checkpoint.family.max_abs_diff if exact else _ANY)
    probe_cases = make_cases(reference, probe_inputs, cases)
    probes = make_probes(probe_cases)
    tolerance = fp32_probe_tolerance(checkpoint, largest_expected(probes))
    if not exact:
        manifest = load_manifest(folder)
        size = sum(weight_sizes(checkpoint).values())
        asked = choose_questions(
            manifest, size, step_tag=checkpoint.step_tag, answerable=reference.has_tokens
        )
        answers = ask_reference(reference, manifest, asked)
        computed_in = reference.computation.record.name
        trial = try_variant(folder, name, asked, answers, computed_in, measured=fidelity, judged=judged)
        fidelity = msgspec.structs.replace(fidelity, end_to_end=trial.figures)
        tolerance = max(tolerance, probe_tolerance(folder, name, probe_cases))
    return fidelity, Probes(tolerances={name: tolerance}, probes=probes)
