"""The export, from a checkpoint to a verified bundle: a straight line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from embedge import store
from embedge.manifest import (
    MANIFEST_FILE,
    TOKENIZER_FILE,
    Manifest,
    Probes,
    Variant,
    dump_manifest,
    fingerprint,
)
from embedge_export.graph.attention import attention_block, score_heads
from embedge_export.graph.built.canvas import Load
from embedge_export.graph.built.choices import CPU_FP32
from embedge_export.graph.route import Route, build_from_weights, choose_route
from embedge_export.precisions import CUDA_VARIANTS, VARIANTS
from embedge_export.progress import Progress, Stages
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.checksums import check_unchanged
from embedge_export.source.read import read_checkpoint
from embedge_export.spec import DEFAULT_OPSET, ExportSpec
from embedge_export.write.companions import note_external_data, write_companions
from embedge_export.write.graph_files import check_target, commit, file_records, save_graph, staging
from embedge_export.write.manifest import (
    PACKAGES,
    UNMEASURED,
    make_manifest,
    require_packages,
    save_modules,
    write_probes,
)

if TYPE_CHECKING:
    import onnx

    from embedge_export.source.tokenizer import Tokenization


def export(spec: ExportSpec, progress: Progress | None = None) -> Path:
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
        from embedge_export.wrap import wrap

        return wrap(spec, progress)
    require_packages(PACKAGES)
    stages = Stages(progress)
    if spec.output is not None:
        check_target(_absolute(spec.output), force=spec.force)
    with stages.stage("source"):
        from embedge_export.source.causal_reranker import resolve_tokens
        from embedge_export.source.tokenizer import describe_tokenizer, load_tokenizer
        from embedge_export.source.torch_model import load_model

        checkpoint = read_checkpoint(spec)
        target = _absolute(spec.output or store.bundle_path(checkpoint.repository.name))
        check_target(target, force=spec.force)
        tokenizer = load_tokenizer(checkpoint)
        checkpoint = resolve_tokens(checkpoint, tokenizer, spec)
        tokenization = describe_tokenizer(tokenizer, checkpoint)
        model = None if checkpoint.kind == "static" else load_model(checkpoint)
        stages.detail = (
            f"{checkpoint.repository.name}: {checkpoint.architecture}, "
            f"{', '.join(checkpoint.tasks)}, up to {tokenization.max_seq_len} tokens"
        )
    with staging(target, _needed_bytes(checkpoint, spec.variants)) as folder:
        with stages.stage("graph"):
            graph, loads, route = _make_graph(model, checkpoint, tokenization, spec, folder)
            stages.detail = f"{len(graph.graph.node)} nodes, {route}"
        with stages.stage("heads"):
            from embedge_export.graph.outputs import attach_heads

            graph_spec = attach_heads(graph, checkpoint, model)
            stages.detail = f"outputs {', '.join(value.name for value in graph.graph.output)}"
        with stages.stage("write"):
            from embedge_export.variants.calibration import calibration_feeds
            from embedge_export.variants.cuda import write_cuda_variants
            from embedge_export.verify.judge import judge, probe_tolerances, summary
            from embedge_export.verify.numbers import (
                FP32_PROBE_FACTOR,
                built_in_inputs,
                make_cases,
                make_probes,
                verify_variant,
            )
            from embedge_export.verify.reference import Reference

            (folder / TOKENIZER_FILE).write_bytes(tokenization.file)
            write_companions(checkpoint, tokenization, folder)
            unmeasured = _save_variants(graph, loads, route, checkpoint, tokenization, spec.variants, folder)
            note_external_data(folder)
            del graph, loads
            words = []
            if wanted := [name for name in spec.variants if name in CUDA_VARIANTS]:
                feeds = calibration_feeds(graph_spec.inputs, tokenization, pairs=False)
                for_cuda = write_cuda_variants(checkpoint, tokenization, model, feeds, wanted, folder)
                unmeasured |= for_cuda.variants
                words = for_cuda.words
            reference = Reference(model, checkpoint, tokenization)
            inputs, probe_inputs = built_in_inputs(checkpoint)
            gate = checkpoint.family.max_abs_diff
            fp32_tolerance = gate * FP32_PROBE_FACTOR
            probes = Probes(
                tolerances=dict.fromkeys(unmeasured, fp32_tolerance),
                probes=make_probes(make_cases(reference, probe_inputs)),
            )
            write_probes(probes, folder)
            dense = save_modules(checkpoint, folder)
            manifest = make_manifest(checkpoint, tokenization, graph_spec, dense, unmeasured, folder)
            (folder / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
            size = sum(record.size_bytes for record in manifest.files.values())
            stages.detail = "; ".join([f"{len(manifest.files) + 1} files, {size / 1e6:.1f} MB", *words])
        with stages.stage("verify"):
            cases = make_cases(reference, inputs)
            fidelity = verify_variant(folder, "fp32", cases, gate)
            check_unchanged(checkpoint)
            left_out = len(inputs) - len(cases)
            stages.detail = (
                f"fp32: {fidelity.num_texts} texts, largest difference {fidelity.max_abs_diff:.1e}, "
                f"alone or in a batch {fidelity.max_batch_diff:.1e}"
                + (f", {left_out} without tokens left out" if left_out else "")
            )
        variants = {"fp32": msgspec.structs.replace(manifest.variants["fp32"], fidelity=fidelity)}
        with stages.stage("judge"):
            variants, trials = judge(
                folder,
                msgspec.structs.replace(manifest, variants=manifest.variants | variants),
                cases,
                reference,
                step_tag=checkpoint.step_tag,
                full=spec.full_report,
            )
            kept = {
                name: variants[name] for name in manifest.variants if name != "fp32" or name in spec.variants
            }
            manifest = _keep_variants(manifest, kept, folder)
            largest = max((abs(x) for probe in probes.probes for x in probe.expected), default=0.0)
            tolerances = probe_tolerances(kept, fp32_tolerance, largest)
            write_probes(msgspec.structs.replace(probes, tolerances=tolerances), folder)
            variants = kept
            stages.detail = "; ".join(summary(name, variant) for name, variant in kept.items())
        manifest = msgspec.structs.replace(manifest, variants=variants, files=file_records(folder))
        manifest = msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))
        with stages.stage("report"):
            from embedge_export.report.card import write_card
            from embedge_export.report.page import write_report

            write_card(folder, manifest, spec)
            write_report(folder, manifest, trials, spec)
            # the fingerprint leaves both files out
            manifest = msgspec.structs.replace(manifest, files=file_records(folder))
            stages.detail = "report.html, README.md"
        (folder / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
        commit(folder, target)
    stages.finish(f"{target.name}, fingerprint {manifest.fingerprint[:12]}")
    return target


def _make_graph(
    model: Any, checkpoint: Checkpoint, tokenization: Tokenization, spec: ExportSpec, folder: Path
) -> tuple[onnx.ModelProto, Mapping[str, Load], Route]:
    """The float32 graph without its heads, what reads the weights that are not in it, and how it was made."""
    opset = DEFAULT_OPSET if spec.opset is None else spec.opset
    route = choose_route(checkpoint, spec)
    if route == "built from the table":
        from embedge_export.graph.static import build_graph, read_table

        return build_graph(read_table(checkpoint), opset, tokenization.ignored_id), {}, route
    if route == "built from the weights":
        return (*build_from_weights(checkpoint), route)
    from embedge_export.graph.traced import trace

    scratch = folder / "scratch"
    scratch.mkdir()
    graph = trace(model, checkpoint, opset, scratch)
    scratch.rmdir()
    return graph, {}, route


def _save_variants(
    graph: onnx.ModelProto,
    loads: Mapping[str, Load],
    route: Route,
    checkpoint: Checkpoint,
    tokenization: Tokenization,
    names: Sequence[str],
    folder: Path,
) -> dict[str, Variant]:
    """Write every graph; float32 too where it was not asked for, since the others are judged by it."""
    from embedge_export.variants.calibration import calibration_feeds
    from embedge_export.variants.compressed import compressed

    feeds = []
    if any(VARIANTS[name].stored.calibrated for name in names):
        inputs = [value.name for value in graph.graph.input]
        feeds = calibration_feeds(inputs, tokenization, pairs="score" in checkpoint.tasks)
    file, data_files = save_graph(graph, folder, "model", loads)
    made = {
        "fp32": Variant(
            file=file,
            data_files=data_files,
            dtype="float32",
            fidelity=UNMEASURED,
            score_heads=score_heads(graph, checkpoint.num_attention_heads),
            attention_block=attention_block(graph, checkpoint.hidden_size, checkpoint.num_attention_heads),
            disabled_optimizers=CPU_FP32.disabled_optimizers if route == "built from the weights" else (),
        )
    }
    for smaller in compressed(folder / file, names, feeds):
        file, data_files = save_graph(smaller.graph, folder, VARIANTS[smaller.name].stem)
        made[smaller.name] = Variant(
            file=file,
            data_files=data_files,
            dtype=VARIANTS[smaller.name].dtype,
            fidelity=UNMEASURED,
            disabled_optimizers=smaller.disabled_optimizers,
            needs=smaller.needs,
            forms=smaller.forms,
            score_heads=score_heads(smaller.graph, checkpoint.num_attention_heads),
            attention_block=attention_block(
                smaller.graph, checkpoint.hidden_size, checkpoint.num_attention_heads
            ),
        )
    return made


def _keep_variants(manifest: Manifest, kept: dict[str, Variant], folder: Path) -> Manifest:
    """Take the graphs that were only needed for judging out of the bundle."""
    for name, variant in manifest.variants.items():
        if name not in kept:
            for file in variant.files:
                (folder / file).unlink()
    return msgspec.structs.replace(manifest, variants=kept, files=file_records(folder))


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _needed_bytes(checkpoint: Checkpoint, variants: Sequence[str]) -> int:
    # the traced file is read and deleted before the graph is written; float32 is written to judge the others by
    folder = checkpoint.repository.folder
    share = sum(VARIANTS[name].stored.size_share for name in {"fp32", *variants})
    size = sum((folder / name).stat().st_size for name in checkpoint.weights)
    return int(1.05 * share * size) + 5_000_000
