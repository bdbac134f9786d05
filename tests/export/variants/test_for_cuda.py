"""Exports for CUDA where no GPU is: what is written, what is checked, and what is said to be unmeasured."""

from __future__ import annotations

import math
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.torch import load_file, save_file
from tests.export import tiny_kinds
from tests.export.tiny import edit_json, make_bert

from embedge import EdgeModel, ExportError, ParamsError, VerificationError
from embedge.cli.main import main
from embedge.manifest import load_manifest, load_probes
from embedge.verify import verify
from embedge_export.graph import route
from embedge_export.graph.built.canvas import every_node
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
from embedge_export.variants import cuda as cuda_variant
from embedge_export.write import graph_files as write


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch) -> None:
    monkeypatch.setattr("embedge_export.verify.judge.gpu_here", lambda: False)


def exported(folder: Path, make=make_bert, **changes) -> Path:
    make(folder / "checkpoint")
    return export(
        ExportSpec(model=str(folder / "checkpoint"), output=folder / "bundle", optimize_for="cuda", **changes)
    )


def operators(bundle: Path) -> set[str]:
    file = load_manifest(bundle).variants["fp16_cuda"].file
    graph = onnx.load(str(bundle / file), load_external_data=False).graph
    return {node.op_type for node in every_node(graph.node)}


def test_the_variant_is_written_beside_float32_and_says_that_it_is_unmeasured(tmp_path, capsys) -> None:
    bundle = exported(tmp_path)
    manifest = load_manifest(bundle)
    assert set(manifest.variants) == {"fp32", "fp16_cuda"}
    cuda = manifest.variants["fp16_cuda"]
    assert (cuda.target, cuda.dtype, cuda.fidelity.num_texts) == ("cuda", "float16", 0)
    assert cuda.score_heads is None
    kinds = {
        "RemovePadding",
        "PackedAttention",
        "PackedMultiHeadAttention",
        "SkipLayerNormalization",
        "BiasGelu",
    }
    assert kinds <= operators(bundle)
    for file in ("report.html", "README.md"):
        assert "not measured" in (bundle / file).read_text("utf-8")
    assert "run embedge verify BUNDLE --device cuda" in (bundle / "report.html").read_text("utf-8")
    assert load_probes(bundle).tolerances["fp16_cuda"] > load_probes(bundle).tolerances["fp32"]
    assert main(["inspect", str(bundle)]) == 0
    assert "not measured" in capsys.readouterr().out
    assert [report.variant for report in verify(bundle, device="cpu")] == ["fp32"]
    with EdgeModel(bundle, device="cpu") as model:
        assert model.info.variant == "fp32"
    with pytest.raises(ParamsError, match="only cuda has"):
        EdgeModel(bundle, device="cpu", variant="fp16_cuda")


@pytest.mark.parametrize("choice", ["auto", "trace"])
def test_a_checkpoint_is_described_once_for_all_its_graphs(tmp_path, monkeypatch, choice) -> None:
    """Its configuration is read and its weights are mapped once, whatever is built: float32, its twins, CUDA's."""
    calls = Counter()

    def spied(name):
        function = getattr(route, name)

        def spy(*arguments, **options):
            calls[name] += 1
            return function(*arguments, **options)

        return spy

    for name in ("read_encoder", "StoredWeights", "build", "build_cuda"):
        monkeypatch.setattr(route, name, spied(name))
    bundle = exported(tmp_path, route=choice)
    assert set(load_manifest(bundle).variants) == {"fp32", "fp16_cuda"}
    assert {name: calls[name] for name in ("read_encoder", "StoredWeights")} == {
        "read_encoder": 1, "StoredWeights": 1,
    }  # fmt: skip
    # the float32 graph is built a second time to hold the twins against it
    assert (calls["build"], calls["build_cuda"]) == (2 if choice == "auto" else 1, 3 + 2)


@pytest.mark.parametrize("apart", [False, True])
def test_a_graph_for_single_queries_shares_the_weights(tmp_path, monkeypatch, apart) -> None:
    if apart:
        monkeypatch.setattr(write, "EXTERNAL_DATA_BYTES", 0)
        monkeypatch.setattr(write, "_SMALL_TENSOR_BYTES", 1000)
    bundle = exported(tmp_path, variants=("fp32",))
    variant = load_manifest(bundle).variants["fp16_cuda"]
    assert variant.files == (variant.file, *variant.data_files, "onnx/model_fp16_cuda_query.onnx")
    graph = onnx.load(str(bundle / variant.query_file), load_external_data=False).graph
    assert "If" not in {node.op_type for node in graph.node}
    if apart:
        (data,) = variant.data_files
        outside = [tensor for tensor in graph.initializer if tensor.external_data]
        assert {tensor.external_data[0].value for tensor in outside} == {Path(data).name}
        matrices = [math.prod(t.dims) for t in graph.initializer if len(t.dims) > 1]
        # each on a page of its own
        assert (bundle / data).stat().st_size < 2 * sum(matrices) + 4096 * (len(outside) + 1)
    # on the CPU, which widens what it cannot compute in half precision
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(bundle / variant.query_file), options)
    ids = np.arange(5, 17)[None]
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (rows,) = session.run([load_manifest(bundle).graph.pooled], known)
    full = onnxruntime.InferenceSession(str(bundle / load_manifest(bundle).variants["fp32"].file))
    (expected,) = full.run([load_manifest(bundle).graph.pooled], known)
    cosines = (rows * expected).sum() / np.linalg.norm(rows) / np.linalg.norm(expected)
    assert cosines > 0.9999


def test_a_graph_takes_the_inputs_of_a_traced_one(tmp_path) -> None:
    bundle = exported(tmp_path, tiny_kinds.qwen3_embedder, route="trace")
    manifest = load_manifest(bundle)
    # optimum's trace of a decoder takes its positions, torch.onnx's works them out
    positions = ("position_ids",) if find_spec("optimum") else ()
    assert manifest.graph.inputs == ("input_ids", "attention_mask", *positions)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # that of batches chooses packed operators, which only CUDA has
    single = manifest.variants["fp16_cuda"].query_file
    assert single is not None
    session = onnxruntime.InferenceSession(str(bundle / single), options)
    ids = np.arange(5, 17)[None]
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(12)[None]}
    known = {name: known[name] for name in manifest.graph.inputs}
    assert np.isfinite(session.run([manifest.graph.pooled], known)[0]).all()
    graph = onnx.load(str(bundle / manifest.variants["fp16_cuda"].file), load_external_data=False)
    with pytest.raises(
        ExportError, match="needs the input attention_mask, which the traced graph does not have"
    ):
        cuda_variant._take_inputs(graph, ["input_ids"])


@pytest.mark.parametrize("make", [make_bert, tiny_kinds.qwen3_embedder])
def test_the_plan_names_the_files(tmp_path, capsys, make) -> None:
    bundle = exported(tmp_path, make)
    arguments = [
        "export",
        str(tmp_path / "checkpoint"),
        "-o",
        str(tmp_path / "other"),
        "--optimize-for",
        "cuda",
    ]
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert {name for name in load_manifest(bundle).files if name.startswith("onnx/")} == set(
        re.findall(r"onnx/\w+\.onnx(?:_data)?", said)
    )


def test_fp16_means_cudas_when_a_graph_is_optimised_for_it(tmp_path) -> None:
    assert ExportSpec(model="m", optimize_for="cuda", variants=("fp16",)).variants == ("fp16_cuda",)
    assert ExportSpec(model="m", optimize_for="cuda", variants=("fp32", "fp16", "int8")).variants == (
        "fp32",
        "int8",
        "fp16_cuda",
    )
    with pytest.raises(ExportError, match="given with from_onnx"):
        ExportSpec(model="m", optimize_for="cuda", from_onnx=tmp_path)


def test_a_decoder_takes_onnx_attention_and_packed_attention_for_ragged_batches(tmp_path) -> None:
    bundle = exported(tmp_path, tiny_kinds.qwen3_embedder)
    manifest = load_manifest(bundle)
    of_batches = {"SimplifiedLayerNormalization", "RotaryEmbedding", "Attention"}
    assert of_batches | {"PackedMultiHeadAttention", "If"} <= operators(bundle)
    assert manifest.tokenizer.padding_side == "right"
    variant = manifest.variants["fp16_cuda"]
    assert (variant.score_heads, variant.pad_to_multiple_of) == (None, 8)
    assert variant.query_file != variant.file
    assert variant.query_file is not None
    nodes = onnx.load(str(bundle / variant.query_file), load_external_data=False).graph.node
    kinds = {node.op_type for node in every_node(nodes)}
    assert of_batches <= kinds
    assert not kinds & {"If", "RemovePadding", "PackedMultiHeadAttention"}


def test_a_classifiers_head_is_in_the_graph(tmp_path) -> None:
    bundle = exported(tmp_path, lambda folder: tiny_kinds.bert_classifier(folder, "a", "b"))
    assert load_manifest(bundle).tasks[0] == "classify"
    assert "PackedAttention" in operators(bundle)


@pytest.mark.parametrize(
    ("make", "weight", "wrong_form"),
    [
        (make_bert, "output.dense.weight", 0),
        (make_bert, "output.dense.weight", 1),
        (tiny_kinds.qwen3_embedder, "v_proj.weight", 0),
    ],
)
def test_wrong_operators_fail_the_export(tmp_path, monkeypatch, make, weight, wrong_form) -> None:
    built = cuda_variant.build_twins

    def wrong(*arguments):
        forms = built(*arguments)
        model, loads = forms[wrong_form]
        name = next(name for name in loads if name.endswith(weight))
        load = loads[name]
        forms[wrong_form] = model, loads | {name: lambda: load() * 1.5}
        return forms

    monkeypatch.setattr(cuda_variant, "build_twins", wrong)
    with pytest.raises(VerificationError, match="the graph for CUDA is not the checkpoint"):
        exported(tmp_path, make)
    assert not (tmp_path / "bundle").exists()


def enlarge(folder: Path, name: str | tuple[str, ...], factor: float) -> None:
    """Multiply weights whose names end so; what follows normalises it away, as in a trained model that does so."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    for key in weights:
        if key.endswith(name):
            weights[key] *= factor
    save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("make", "name", "factor", "words"),
    [
        (
            make_bert,
            ("layer.1.intermediate.dense.weight", "layer.1.output.dense.weight"),
            5e3,
            r"layers.1.feed_forward/MatMul_2 reaches [\d,]{6,} on built-in texts, more than half",
        ),
        (
            tiny_kinds.qwen3_embedder,
            ("layers.0.mlp.up_proj.weight", "layers.0.mlp.down_proj.weight"),
            5e3,
            r"layers.0.feed_forward/\w+ reaches",
        ),
        (make_bert, "layer.0.intermediate.dense.weight", 1e9, "the weight .* reaches .* ends at 65,504"),
    ],
)
def test_what_overflows_float16_is_written_in_bfloat16(tmp_path, capsys, make, name, factor, words) -> None:
    make(tmp_path / "checkpoint")
    enlarge(tmp_path / "checkpoint", name, factor)
    arguments = ["export", str(tmp_path / "checkpoint"), "-o", str(tmp_path / "bundle")]
    assert main([*arguments, "--optimize-for", "cuda"]) == 0
    said = capsys.readouterr().err
    assert re.search(f"bf16_cuda in place of fp16_cuda, as float16 would overflow: {words}", said)
    variants = load_manifest(tmp_path / "bundle").variants
    assert set(variants) == {"fp32", "bf16_cuda"}
    assert (variants["bf16_cuda"].dtype, variants["bf16_cuda"].target) == ("bfloat16", "cuda")
    graph = onnx.load(str(tmp_path / "bundle" / variants["bf16_cuda"].file), load_external_data=False).graph
    matrices = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) > 1}
    assert onnx.TensorProto.BFLOAT16 in matrices
    assert onnx.TensorProto.FLOAT16 not in matrices


def test_bfloat16_may_differ_by_what_its_gate_allows(tmp_path) -> None:
    allowed = load_probes(exported(tmp_path, variants=("fp16_cuda", "bf16_cuda"))).tolerances
    assert allowed["bf16_cuda"] == pytest.approx(7 * allowed["fp16_cuda"], rel=0.01)


def test_bfloat16_is_written_where_it_is_named(tmp_path) -> None:
    assert set(load_manifest(exported(tmp_path, variants=("bf16_cuda",))).variants) == {"bf16_cuda"}
    named = ExportSpec(model="m", optimize_for="cuda", variants=("fp16_cuda", "bf16_cuda"))
    assert named.variants == ("fp16_cuda", "bf16_cuda")


def test_what_cannot_be_built_is_refused(tmp_path) -> None:
    make_bert(tmp_path / "checkpoint")
    edit_json(tmp_path / "checkpoint" / "config.json", hidden_act="mish")
    spec = ExportSpec(
        model=str(tmp_path / "checkpoint"), output=tmp_path / "bundle", optimize_for="cuda", route="trace"
    )
    with pytest.raises(ExportError, match="needs a graph that is built from the weights: activation 'mish'"):
        export(spec)
