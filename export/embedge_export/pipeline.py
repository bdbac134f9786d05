"""The export, from a checkpoint to a verified bundle: a straight line of stages, each a value and a line about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from embedge import store
from embedge.manifest import (
    REPORT_FILE,
    TOKENIZER_FILE,
    Fidelity,
    GraphSpec,
    Manifest,
    Probe,
    Probes,
    WitnessRecord,
)
from embedge_export.families.structure import Load
from embedge_export.graph.outputs import attach_heads
from embedge_export.graph.route import Chosen, build_from_weights, check_values, choose_route
from embedge_export.graph.static import build_graph
from embedge_export.graph.traced import trace
from embedge_export.in_towers import export_towers
from embedge_export.memory import given_back
from embedge_export.precisions import VARIANTS
from embedge_export.progress import Listener, Stages
from embedge_export.report.card import CARD_FILE, write_card
from embedge_export.report.page import write_report
from embedge_export.source.checkpoint import Checkpoint, weight_sizes
from embedge_export.source.checksums import check_unchanged
from embedge_export.source.libraries import is_light
from embedge_export.source.read import open_checkpoint
from embedge_export.source.repository import open_repository
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.towers import find_towers
from embedge_export.source.weights import LoadedWeights, load_weights
from embedge_export.spec import DEFAULT_OPSET, ExportSpec, expanded
from embedge_export.variants.accelerated import write_accelerated_variants
from embedge_export.variants.cpu import write_cpu_variants
from embedge_export.verify.gates import Trial
from embedge_export.verify.judge import judge, probe_tolerances, summary
from embedge_export.verify.numbers import (
    Case,
    Inputs,
    built_in_inputs,
    fp32_probe_tolerance,
    largest_expected,
    make_cases,
    make_probes,
    verify_variant,
)
from embedge_export.verify.reference import Reference, open_reference
from embedge_export.verify.witness.call import call_witness
from embedge_export.wrap import wrap
from embedge_export.write.companions import note_external_data, write_companions
from embedge_export.write.manifest import (
    PACKAGES,
    WITH_TORCH,
    complete_manifest,
    make_manifest,
    require_packages,
    save_modules,
    with_reports,
    write_manifest,
    write_probes,
)
from embedge_export.write.staging import check_output, choose_target, staging

if TYPE_CHECKING:
    import onnx


class _Opened(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The checkpoint, and where its bundle goes."""

    checkpoint: Checkpoint
    tokenization: Tokenization
    weights: LoadedWeights
    target: Path


class _Made(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The float32 graph, what reads the weights that are not in it, and how it is made."""

    graph: onnx.ModelProto
    loads: Mapping[str, Load]
    chosen: Chosen


class _Written(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A bundle that nothing was compared with yet."""

    manifest: Manifest
    reference: Reference
    inputs: Inputs
    probe_cases: Sequence[Case]
    probes: tuple[Probe, ...]


class _Verified(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the reference answers, and how close float32 came to it."""

    cases: Sequence[Case]
    fidelity: Fidelity


class _Judged(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The bundle with its figures, and the trials that the report shows."""

    manifest: Manifest
    trials: Mapping[str, Trial]


def export(spec: ExportSpec, progress: Listener | None = None) -> Path:
    """Export a checkpoint to a bundle that equals it, or leave nothing behind.

    Args:
        spec: what to export, and where to.
        progress: told how far it is.

    Returns:
        The bundle's folder.

    Raises:
        ExportError: the checkpoint cannot be exported, or the bundle cannot be written.
        VerificationError: the graph's numbers are not the checkpoint's.
        MissingExtraError: the exporter's dependencies are not installed.
    """
    if spec.from_onnx is not None:
        return wrap(spec, progress)
    require_packages(PACKAGES)
    if not is_light(spec):
        require_packages(WITH_TORCH, "export-torch")
    if spec.tower is None and (towers := find_towers(open_repository(spec).folder)) is not None:
        return export_towers(spec, towers, _export, progress)
    return _export(spec, spec, progress)


def _export(spec: ExportSpec, whole: ExportSpec, progress: Listener | None) -> Path:
    """Export one model, or one tower of a model; the reports say how to make the whole."""
    stages = Stages(progress)
    if spec.output is not None:
        check_output(expanded(spec.output).absolute(), force=spec.force)
    opened = stages.run("source", _open, spec)
    with staging(opened.target, _needed_bytes(opened.checkpoint, spec.variants), force=spec.force) as folder:
        made = stages.run("graph", _make_graph, opened, spec, folder)
        outputs = stages.run("heads", _attach_heads, made, opened)
        written = stages.run("write", _write, made, outputs, opened, spec, folder)
        del made
        verified = stages.run("verify", _verify, written, opened.checkpoint, folder)
        witness = stages.run("witness", _ask_witness, opened.checkpoint, spec, folder)
        judged = stages.run("judge", _judge, written, verified, witness, opened.checkpoint, spec, folder)
        manifest = stages.run("report", _report, judged, whole, folder)
        write_manifest(manifest, folder)
        store.commit(folder, opened.target)
    stages.finish(f"{opened.target.name}, fingerprint {manifest.fingerprint[:12]}")
    return opened.target


def _open(spec: ExportSpec) -> tuple[_Opened, str]:
    source = open_checkpoint(spec)
    checkpoint, tokenization = source.checkpoint, source.tokenization
    target = choose_target(spec, checkpoint.repository.name)
    weights = load_weights(checkpoint, with_model=not is_light(spec))
    opened = _Opened(checkpoint=checkpoint, tokenization=tokenization, weights=weights, target=target)
    return opened, (
        f"{checkpoint.repository.name}: {checkpoint.architecture}, "
        f"{', '.join(checkpoint.tasks)}, up to {tokenization.max_seq_len} tokens"
        + "".join(f"; assumed {what}" for what in checkpoint.assumed)
    )


def _make_graph(opened: _Opened, spec: ExportSpec, folder: Path) -> tuple[_Made, str]:
    """Make the float32 graph without its heads."""
    checkpoint, weights = opened.checkpoint, opened.weights
    opset = DEFAULT_OPSET if spec.opset is None else spec.opset
    chosen = choose_route(checkpoint, spec)
    loads: Mapping[str, Load] = {}
    if weights.table is not None:
        graph = build_graph(weights.table, opset, opened.tokenization.ignored_id)
    elif chosen.described is not None:
        if weights.model is None:
            check_values(chosen.described)
        graph, loads = build_from_weights(chosen.described)
    else:
        scratch = folder / "scratch"
        scratch.mkdir()
        graph = trace(weights.model, checkpoint, opset, scratch)
        scratch.rmdir()
    return _Made(graph=graph, loads=loads, chosen=chosen), f"{len(graph.graph.node)} nodes, {chosen.route}"


def _attach_heads(made: _Made, opened: _Opened) -> tuple[GraphSpec, str]:
    outputs = attach_heads(made.graph, opened.checkpoint, opened.weights)
    return outputs, f"outputs {', '.join(value.name for value in made.graph.graph.output)}"


@given_back()
def _write(
    made: _Made, outputs: GraphSpec, opened: _Opened, spec: ExportSpec, folder: Path
) -> tuple[_Written, str]:
    """Write everything that a bundle needs to be loaded."""
    checkpoint, tokenization, weights = opened.checkpoint, opened.tokenization, opened.weights
    (folder / TOKENIZER_FILE).write_bytes(tokenization.file)
    write_companions(checkpoint, tokenization, folder)
    variants = write_cpu_variants(
        made.graph, made.loads, made.chosen, checkpoint, tokenization, spec.variants, folder
    )
    note_external_data(folder)
    accelerated, words = write_accelerated_variants(
        checkpoint, made.chosen, tokenization, weights, outputs.inputs, spec.variants,
        (made.graph, variants["fp32"]), folder,
    )  # fmt: skip
    variants |= accelerated
    reference = open_reference(weights, checkpoint, tokenization, light=is_light(spec))
    inputs, probe_inputs = built_in_inputs(checkpoint)
    probe_cases = make_cases(reference, probe_inputs)
    probes = make_probes(probe_cases)
    dense = save_modules(checkpoint, weights, folder)
    manifest = make_manifest(checkpoint, tokenization, outputs, dense, variants, folder)
    write_manifest(manifest, folder)
    size = sum(record.size_bytes for record in manifest.files.values())
    written = _Written(
        manifest=manifest, reference=reference, inputs=inputs, probe_cases=probe_cases, probes=probes
    )
    return written, "; ".join([f"{len(manifest.files) + 1} files, {size / 1e6:.1f} MB", *words])


def _verify(written: _Written, checkpoint: Checkpoint, folder: Path) -> tuple[_Verified, str]:
    """Compare every number of float32 with the reference's."""
    cases = make_cases(written.reference, written.inputs, written.probe_cases)
    fidelity = verify_variant(folder, "fp32", cases, checkpoint.family.max_abs_diff)
    check_unchanged(checkpoint)
    left_out = len(written.inputs) - len(cases)
    return _Verified(cases=cases, fidelity=fidelity), (
        f"fp32: {fidelity.num_texts} texts, largest difference {fidelity.max_abs_diff:.1e}, "
        f"alone or in a batch {fidelity.max_batch_diff:.1e}"
        + (f", {left_out} without tokens left out" if left_out else "")
    )


def _ask_witness(checkpoint: Checkpoint, spec: ExportSpec, folder: Path) -> tuple[WitnessRecord, str]:
    """Compare float32 with what the checkpoint's own library makes of the folder."""
    record = call_witness(folder, checkpoint, spec)
    return record, record.words


def _judge(
    written: _Written,
    verified: _Verified,
    witness: WitnessRecord,
    checkpoint: Checkpoint,
    spec: ExportSpec,
    folder: Path,
) -> tuple[_Judged, str]:
    """Hold every variant against its gate, and write the probes, whose tolerances follow from the figures."""
    manifest = written.manifest
    fp32 = msgspec.structs.replace(manifest.variants["fp32"], fidelity=verified.fidelity)
    variants, trials = judge(
        folder,
        msgspec.structs.replace(manifest, variants=manifest.variants | {"fp32": fp32}),
        verified.cases,
        written.reference,
        step_tag=checkpoint.step_tag,
        full=spec.full_report,
    )
    kept = {name: variants[name] for name in manifest.variants if name != "fp32" or name in spec.variants}
    # float32 may have been written for judging only, but for weights that others share
    for file in {file for each in variants.values() for file in each.files}.difference(
        *(each.files for each in kept.values())
    ):
        (folder / file).unlink()
    largest = largest_expected(written.probes)
    fp32_tolerance = fp32_probe_tolerance(checkpoint, largest)
    tolerances = probe_tolerances(folder, kept, written.probe_cases, fp32_tolerance, largest)
    write_probes(Probes(tolerances=tolerances, probes=written.probes), folder)
    reference = written.reference.computation.record
    complete = complete_manifest(manifest, kept, reference, witness, folder)
    return _Judged(manifest=complete, trials=trials), "; ".join(
        summary(name, variant) for name, variant in kept.items()
    )


def _report(judged: _Judged, spec: ExportSpec, folder: Path) -> tuple[Manifest, str]:
    write_card(folder, judged.manifest, spec)
    write_report(folder, judged.manifest, judged.trials, spec)
    names = (REPORT_FILE, CARD_FILE)
    return with_reports(judged.manifest, names, folder), ", ".join(names)


def _needed_bytes(checkpoint: Checkpoint, variants: Sequence[str]) -> int:
    # the traced file is read and deleted before the graph is written; float32 is written to judge the others by
    share = sum(VARIANTS[name].stored.size_share for name in {"fp32", *variants})
    return int(1.05 * share * sum(weight_sizes(checkpoint).values())) + 5_000_000
