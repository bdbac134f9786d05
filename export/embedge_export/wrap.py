"""`embedge export --from-onnx`: a bundle around an existing ONNX file, verified against torch, probes or both."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from embedge import store
from embedge.errors import ExportError
from embedge.manifest import (
    MANIFEST_FILE,
    TOKENIZER_FILE,
    Dtype,
    Fidelity,
    Probes,
    Variant,
    dump_manifest,
)
from embedge_export.graph.attention import score_heads
from embedge_export.graph.given import adapt, load_graph, precision
from embedge_export.precisions import VARIANTS
from embedge_export.progress import Progress, Stages
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.checksums import check_unchanged
from embedge_export.source.read import read_checkpoint
from embedge_export.spec import ExportSpec
from embedge_export.verify.given_probes import GivenProbes, as_cases, compare_embeddings, read_probes
from embedge_export.write.companions import note_external_data, write_companions
from embedge_export.write.graph_files import check_target, commit, save_graph, staging
from embedge_export.write.manifest import (
    UNMEASURED,
    make_manifest,
    require_packages,
    save_modules,
    write_probes,
)

if TYPE_CHECKING:
    from embedge_export.source.tokenizer import Tokenization
    from embedge_export.verify.reference import Reference

_PACKAGES = ("transformers", "onnx", "tokenizers", "safetensors")


def wrap(spec: ExportSpec, progress: Progress | None = None) -> Path:
    """Make a bundle of `spec.from_onnx` and the checkpoint's config and tokenizer, or leave nothing behind.

    Where torch and the checkpoint's weights are there, they are the reference, as for any export; `spec.probes` serve
    where they are not, and are compared as well where both are there.

    Returns:
        The bundle's folder.

    Raises:
        ExportError: the file does not fit the checkpoint, or there is nothing to verify it with.
        VerificationError: it computes something else than the reference or the probes state.
        MissingExtraError: a package of the exporter other than torch and optimum is not installed.
    """
    if spec.from_onnx is None:
        raise ExportError("from_onnx is missing; expected an ONNX file to wrap")
    require_packages(_PACKAGES)
    stages = Stages(progress)
    path = spec.from_onnx.expanduser().absolute()
    with stages.stage("source"):
        from embedge_export.source.causal_reranker import resolve_tokens
        from embedge_export.source.tokenizer import describe_tokenizer, load_tokenizer

        checkpoint = read_checkpoint(spec)
        target = (spec.output or store.bundle_path(checkpoint.repository.name)).expanduser().absolute()
        check_target(target, force=spec.force)
        given = None if spec.probes is None else read_probes(spec.probes)
        tokenizer = load_tokenizer(checkpoint)
        checkpoint = resolve_tokens(checkpoint, tokenizer, spec)
        tokenization = describe_tokenizer(tokenizer, checkpoint)
        graph, graph_spec = adapt(load_graph(path), checkpoint, path)
        if graph_spec.hidden is None and checkpoint.kind == "embedding":
            checkpoint = msgspec.structs.replace(checkpoint, tasks=("embed",))
        name, dtype = precision(graph)
        reference = _reference(checkpoint, tokenization)
        if reference is None and given is None:
            raise ExportError(
                f"there is nothing to verify {path.name} with: the checkpoint has no weights here, or torch is not "
                'installed; expected either. Pass --probes FILE, a JSON list of {"text": …, "embedding": […]}.'
            )
        stages.detail = f"{checkpoint.repository.name}: {path.name}, {dtype}, {', '.join(checkpoint.tasks)}"
    with staging(target, path.stat().st_size * 2 + 5_000_000) as folder:
        with stages.stage("write"):
            (folder / TOKENIZER_FILE).write_bytes(tokenization.file)
            write_companions(checkpoint, tokenization, folder)
            file, data_files = save_graph(graph, folder, VARIANTS[name].stem)
            note_external_data(folder)
            variant = Variant(
                file=file,
                data_files=data_files,
                dtype=dtype,
                fidelity=UNMEASURED,
                score_heads=score_heads(graph, checkpoint.num_attention_heads),
            )
            del graph
            dense = save_modules(checkpoint, folder)
            origin = {path.name: hashlib.sha256(path.read_bytes()).hexdigest(), **checkpoint.weights}
            stated = msgspec.structs.replace(checkpoint, weights=origin)
            write_probes(Probes(tolerances={}, probes=()), folder)
            manifest = make_manifest(stated, tokenization, graph_spec, dense, {name: variant}, folder)
            (folder / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
            stages.detail = (
                f"{len(manifest.files) + 1} files, outputs {graph_spec.pooled or graph_spec.token}"
            )
        with stages.stage("verify"):
            fidelity = None
            details = []
            if given is not None:
                fidelity, probes = _compare(folder, name, dtype, given, checkpoint)
                details.append(f"{fidelity.num_texts} probes, {fidelity.max_abs_diff:.1e}")
            if reference is not None:
                fidelity, probes = _judge(folder, name, dtype, reference, checkpoint)
                details.append(f"{fidelity.num_texts} texts against torch, {fidelity.max_abs_diff:.1e}")
            assert fidelity is not None
            check_unchanged(checkpoint)
            stages.detail = f"{name}: largest difference on {' and on '.join(details)}"
        write_probes(probes, folder)
        measured = msgspec.structs.replace(variant, fidelity=fidelity)
        manifest = make_manifest(stated, tokenization, graph_spec, dense, {name: measured}, folder)
        (folder / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
        commit(folder, target)
    stages.finish(f"{target.name}, fingerprint {manifest.fingerprint[:12]}")
    return target


def _reference(checkpoint: Checkpoint, tokenization: Tokenization) -> Reference | None:
    transformer = checkpoint.transformer.relative_to(checkpoint.repository.folder)
    there = any((checkpoint.repository.folder / name).parent == checkpoint.repository.folder / transformer
                for name in checkpoint.weights)  # fmt: skip
    if not there or importlib.util.find_spec("torch") is None:
        return None
    from embedge_export.source.torch_model import load_model
    from embedge_export.verify.reference import Reference

    return Reference(load_model(checkpoint), checkpoint, tokenization)


def _compare(
    folder: Path, name: str, dtype: Dtype, given: GivenProbes, checkpoint: Checkpoint
) -> tuple[Fidelity, Probes]:
    """Compare with the given probes, and make the bundle's own of them."""
    from embedge_export.verify.numbers import make_probes, verify_variant

    tolerance = given.tolerance(name, dtype)
    if given.texts:
        if "embed" not in checkpoint.tasks:
            raise ExportError(
                f"the probes are embeddings, and the model is for {', '.join(checkpoint.tasks)}; expected "
                "probes in the form of a bundle's probes.json"
            )
        fidelity, cases = compare_embeddings(folder, name, given.texts, tolerance)
        return fidelity, Probes(tolerances={name: tolerance}, probes=make_probes(cases))
    fidelity = verify_variant(folder, name, as_cases(given.probes, checkpoint), tolerance)
    return fidelity, Probes(tolerances={name: tolerance}, probes=given.probes)


def _judge(
    folder: Path, name: str, dtype: Dtype, reference: Reference, checkpoint: Checkpoint
) -> tuple[Fidelity, Probes]:
    """Compare with torch: every number of float32, and what users notice of the others."""
    from embedge.manifest import load_manifest
    from embedge_export.verify.asking import ask_torch
    from embedge_export.verify.gates import try_variant
    from embedge_export.verify.numbers import (
        FP32_PROBE_FACTOR,
        PROBE_MARGIN,
        built_in_inputs,
        make_cases,
        make_probes,
        verify_variant,
    )
    from embedge_export.verify.questions import choose_questions

    inputs, probe_inputs = built_in_inputs(checkpoint)
    cases = make_cases(reference, inputs)
    gate = checkpoint.family.max_abs_diff if dtype == "float32" else float("inf")
    fidelity = verify_variant(folder, name, cases, gate)
    tolerance = gate * FP32_PROBE_FACTOR
    if dtype != "float32":
        manifest = load_manifest(folder)
        size = sum((checkpoint.repository.folder / file).stat().st_size for file in checkpoint.weights)
        asked = choose_questions(manifest, size, step_tag=checkpoint.step_tag)
        trial = try_variant(folder, name, asked, ask_torch(reference, manifest, asked), "torch")
        fidelity = msgspec.structs.replace(fidelity, end_to_end=trial.figures)
        tolerance = fidelity.max_abs_diff * PROBE_MARGIN
    probes = make_probes(make_cases(reference, probe_inputs))
    return fidelity, Probes(tolerances={name: tolerance}, probes=probes)
