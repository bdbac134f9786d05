"""Built graphs against torch and against traced ones, for every family that the builder knows."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.testing import assert_allclose
from tests.export import tiny_kinds
from tests.export.architectures import make, model_class
from tests.export.test_architectures import embedding_gemma
from tests.export.tiny import word_piece
from tests.families.groups import BUILT, LOCAL, WITH_HEADS
from tests.families.tiny import facts, seeded
from tests.installed import TRANSFORMERS_5

from embedge.errors import ExportError
from embedge.manifest import load_manifest
from embedge_export.families.deberta import rows_of_distances
from embedge_export.families.parts import UnsupportedError
from embedge_export.families.structure import Load
from embedge_export.families.table import FAMILIES, read_encoder, read_head
from embedge_export.graph.built.build import build
from embedge_export.graph.built.weights import StoredWeights
from embedge_export.graph.route import build_from_weights, choose_route, describe
from embedge_export.graph.traced import trace
from embedge_export.pipeline import export
from embedge_export.source.read import open_checkpoint
from embedge_export.source.torch_model import load_model, quiet
from embedge_export.spec import ExportSpec
from embedge_export.write import graph_files as write

LENGTHS = (23, 5, 1, 40)
TRACED = "traced by optimum" if find_spec("optimum") else "traced by torch.onnx"


def token_batch() -> dict[str, np.ndarray]:
    """Sequences of mixed lengths, padded with 0 on the right."""
    random = np.random.default_rng(3)
    batch = {name: np.zeros((len(LENGTHS), max(LENGTHS)), np.int64) for name in ("ids", "mask", "types")}
    for row, length in enumerate(LENGTHS):
        batch["ids"][row, :length] = random.integers(5, 60, length)
        batch["mask"][row, :length] = 1
        batch["types"][row, :length] = np.arange(length) >= length // 2
    return batch


def run(model, loads: dict[str, Load], folder: Path, batch: dict[str, np.ndarray]) -> np.ndarray:
    file, _ = write.save_graph(model, folder, "model", loads)
    session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    known = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}
    positions = np.maximum(np.cumsum(batch["mask"], axis=1) - 1, 0)
    feeds = {v.name: batch[known[v.name]] if v.name in known else positions for v in session.get_inputs()}
    return session.run(None, feeds)[0]


def torch_rows(model, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    """transformers' answers, one sequence at a time without padding."""
    import inspect

    import torch

    takes = set(inspect.signature(model.forward).parameters)
    if getattr(model.config, "type_vocab_size", 2) < 2:
        takes.discard("token_type_ids")
    rows = []
    for row in range(len(LENGTHS)):
        kept = batch["mask"][row] > 0
        inputs = {"input_ids": batch["ids"][row, kept], "token_type_ids": batch["types"][row, kept]}
        inputs["attention_mask"] = np.ones_like(inputs["input_ids"])
        with torch.inference_mode():
            answer = model(**{n: torch.from_numpy(a[None]) for n, a in inputs.items() if n in takes})
        rows.append((answer.logits if hasattr(answer, "logits") else answer.last_hidden_state)[0].numpy())
    return rows


def largest_difference(actual: np.ndarray, expected: list[np.ndarray], batch: dict[str, np.ndarray]) -> float:
    by_token = actual.ndim == 3
    rows = [a[batch["mask"][i] > 0] if by_token else a for i, a in enumerate(actual)]
    return max(float(np.abs(a - e).max()) for a, e in zip(rows, expected, strict=True))


def built_from(family: str, model, folder: Path, *, head: bool = False):
    """The graph of a saved model."""
    row = FAMILIES[family]
    stated = facts(model.config, family)
    weights = StoredWeights([folder / "model.safetensors"], row.prefixes, row.renames)
    return build(read_encoder(stated), weights, head=read_head(stated, "vocabulary") if head else None)


CELLS = [
    (family, task)
    for family in BUILT
    if family in LOCAL
    for task in ("embed", "classify", "token_classify")
    if model_class(family, task)
]

UNTRACED = {"ministral", "modernbert-decoder", "olmo3"} if not TRANSFORMERS_5 else set()
"""Whose windows' masks torch cannot trace as transformers 4 makes them."""


@pytest.mark.parametrize(("family", "task"), CELLS)
def test_built_graph_traced_graph_and_torch_agree(family, task, tmp_path):
    folder = make(tmp_path / "checkpoint", family, task)
    checkpoint = open_checkpoint(ExportSpec(model=str(folder))).checkpoint
    assert choose_route(checkpoint, ExportSpec(model=str(folder))).route == "built from the weights"
    model = load_model(checkpoint)
    decoder = checkpoint.is_decoder and FAMILIES[family].head is None
    batch = token_batch()
    built = run(*build_from_weights(describe(checkpoint)), tmp_path / "built", batch)
    expected = torch_rows(model.base_model if decoder else model, batch)
    gate = FAMILIES[family].max_abs_diff
    assert largest_difference(built, expected, batch) <= gate
    if family in UNTRACED:
        return
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    traced = run(trace(model, checkpoint, 18, scratch), {}, tmp_path / "traced", batch)
    assert largest_difference(traced, expected, batch) <= gate
    real = batch["mask"] > 0 if built.ndim == 3 else slice(None)
    assert_allclose(built[real], traced[real], atol=gate)


@pytest.mark.parametrize("family", [name for name in WITH_HEADS if name != "modernbert-decoder"])
def test_the_head_of_a_masked_language_model(family, tmp_path):
    with quiet():
        model = seeded(family, "ForMaskedLM")
        model.save_pretrained(tmp_path / "masked")
    made = built_from(family, model, tmp_path / "masked", head=True)
    batch = token_batch()
    assert largest_difference(run(*made, tmp_path, batch), torch_rows(model, batch), batch) <= 1e-5


def test_modernbert_pools_its_classifier_by_the_mean(tmp_path):
    folder = make(tmp_path / "checkpoint", "modernbert", "classify", classifier_pooling="mean")
    checkpoint = open_checkpoint(ExportSpec(model=str(folder))).checkpoint
    batch = token_batch()
    built = run(*build_from_weights(describe(checkpoint)), tmp_path, batch)
    assert largest_difference(built, torch_rows(load_model(checkpoint), batch), batch) <= 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False},
        {"pos_att_type": ["c2p"], "position_buckets": -1},
        {"pos_att_type": ["p2c"], "max_relative_positions": 12},
        {"relative_attention": False},
        {"type_vocab_size": 2},
    ],
    ids=["v3", "c2p", "p2c", "no distances", "types"],
)
def test_options_of_deberta(changes, tmp_path):
    with quiet():
        model = seeded("deberta-v2", **changes)
        model.save_pretrained(tmp_path / "checkpoint")
    made = built_from("deberta-v2", model, tmp_path / "checkpoint")
    batch = token_batch()
    assert largest_difference(run(*made, tmp_path, batch), torch_rows(model, batch), batch) <= 1e-5


@pytest.mark.parametrize("legacy", [True, False])
def test_both_heads_of_deberta_as_a_masked_language_model(legacy, tmp_path):
    if not legacy and "gte" not in LOCAL:
        pytest.skip("transformers 4 leaves the table of words out of the file that it saves")
    with quiet():
        model = seeded("deberta-v2", "ForMaskedLM", legacy=legacy)
        model.save_pretrained(tmp_path / "masked")
    made = built_from("deberta-v2", model, tmp_path / "masked", head=True)
    batch = token_batch()
    assert largest_difference(run(*made, tmp_path, batch), torch_rows(model, batch), batch) <= 1e-5


@pytest.mark.parametrize(
    ("buckets", "farthest"), [(256, 512), (16, 66), (32, 1024), (17, 64), (4, 8), (-1, 40)]
)
def test_rows_of_distances_are_those_of_transformers(buckets, farthest):
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

    rows = rows_of_distances(buckets, farthest)
    last, length = len(rows) // 2, 3 * farthest
    states = torch.zeros(1, length, 1)
    relative = build_relative_position(states, states, buckets, farthest)[0].numpy()
    span = buckets if buckets > 0 else farthest
    distances = np.subtract.outer(np.arange(length), np.arange(length))
    ours = np.array(rows)[np.clip(distances, -last, last) + last]
    np.testing.assert_array_equal(ours, np.clip(relative + span, 0, 2 * span - 1))


def test_gemma_with_attention_in_both_directions(tmp_path):
    checkpoint = open_checkpoint(ExportSpec(model=str(embedding_gemma(tmp_path / "m")))).checkpoint
    batch = token_batch()
    built = run(*build_from_weights(describe(checkpoint)), tmp_path, batch)
    assert largest_difference(built, torch_rows(load_model(checkpoint), batch), batch) <= 1e-4


def test_gemma_is_activated_as_its_library_does(tmp_path):
    with quiet():
        model = seeded("gemma", hidden_act="gelu", hidden_activation="relu")
        model.save_pretrained(tmp_path / "m")
    batch = token_batch()
    built = run(*built_from("gemma", model, tmp_path / "m"), tmp_path, batch)
    assert largest_difference(built, torch_rows(model, batch), batch) <= 1e-4


@pytest.mark.parametrize("kind", ["linear", "llama3"])
def test_scaled_rotary_positions(kind, tmp_path):
    scaling = {"rope_type": kind, "factor": 4.0}
    if kind == "llama3":
        scaling |= {
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    folder = make(tmp_path / "checkpoint", "llama", "embed", rope_scaling=scaling)
    checkpoint = open_checkpoint(ExportSpec(model=str(folder))).checkpoint
    batch = token_batch()
    built = run(*build_from_weights(describe(checkpoint)), tmp_path, batch)
    assert largest_difference(built, torch_rows(load_model(checkpoint), batch), batch) <= 1e-4


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("nomic_bert", {}),
        ("new", {}),
        ("new", {"type_vocab_size": 0}),
        ("new", {"rope_scaling": {"type": "ntk", "factor": 8.0}}),
        ("new", {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.6}}),
    ],
)
def test_families_whose_code_comes_with_the_checkpoint(family, changes, tmp_path):
    model = seeded(family, **changes)
    model.save_pretrained(tmp_path / "checkpoint")
    batch = token_batch()
    if model.config.type_vocab_size < 2:
        batch["types"][:] = 0
    built = run(*built_from(family, model, tmp_path / "checkpoint"), tmp_path, batch)
    assert largest_difference(built, torch_rows(model, batch), batch) <= 1e-5


@pytest.mark.skipif("gte" not in LOCAL, reason="transformers 4 has no class of that name")
@pytest.mark.parametrize("task", ["Model", "ForSequenceClassification"])
def test_nomic_bert_of_transformers(task, tmp_path):
    tokenizer = word_piece()
    folder = tiny_kinds.save(
        tmp_path / "m", f"NomicBert{task}", "NomicBertConfig", tokenizer,
        max_position_embeddings=64, pad_token_id=0, rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        **(tiny_kinds.labels("a", "b", "c") if task != "Model" else {}),
    )  # fmt: skip
    spec = ExportSpec(model=str(folder), output=tmp_path / "out")
    checkpoint = open_checkpoint(spec).checkpoint
    if task != "Model":
        assert choose_route(checkpoint, spec).route == "traced by torch.onnx"
        (tmp_path / "scratch").mkdir()
        made = trace(load_model(checkpoint), checkpoint, 18, tmp_path / "scratch"), {}
    else:
        made = build_from_weights(describe(checkpoint))
    batch = token_batch()
    rows = torch_rows(load_model(checkpoint), batch)
    assert largest_difference(run(*made, tmp_path, batch), rows, batch) <= 1e-5


def test_every_built_family_is_held_against_torch_above():
    remote = {name for name in BUILT if FAMILIES[name].remote}
    assert {family for family, _ in CELLS} | remote == set(BUILT)
    assert remote == {"new", "nomic_bert"}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"hidden_act": "mish"}),
        ("gemma3_text", {"attn_logit_softcapping": 30.0}),
        ("phi3", {"partial_rotary_factor": 0.5}),
        ("deberta-v2", {"conv_kernel_size": 3}),
    ],
)
def test_what_the_builder_does_not_know_is_traced(family, changes, tmp_path):
    folder = make(tmp_path / "checkpoint", family, "embed", **changes)
    spec = ExportSpec(model=str(folder), route="build")
    checkpoint = open_checkpoint(spec).checkpoint
    chosen = choose_route(checkpoint, ExportSpec(model=str(folder)))
    assert (chosen.route, chosen.described) == (TRACED, None)
    with pytest.raises(UnsupportedError, match="has no built graph; expected"):
        choose_route(checkpoint, spec)


def test_weights_under_other_names_are_traced(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make(tmp_path / "checkpoint", "bert", "embed")
    path = folder / "model.safetensors"
    weights = load_file(path)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in weights.items()}
    save_file(old, path, metadata={"format": "pt"})
    describe(open_checkpoint(ExportSpec(model=str(folder))).checkpoint)  # TensorFlow's names
    odd = {name.replace("attention.self", "attention.me"): value for name, value in weights.items()}
    save_file(odd, path, metadata={"format": "pt"})
    with pytest.raises(UnsupportedError, match=r"the weights have no 'encoder\.layer\.0\.attention\.self"):
        describe(open_checkpoint(ExportSpec(model=str(folder))).checkpoint)


def test_an_operator_set_asks_for_the_trace(tiny_bert, tmp_path):
    checkpoint = open_checkpoint(ExportSpec(model=str(tiny_bert))).checkpoint
    for asked in ({"opset": 17}, {"route": "trace"}):
        assert choose_route(checkpoint, ExportSpec(model=str(tiny_bert), **asked)).route == TRACED
    with pytest.raises(ExportError, match="opset=17 is given with route 'build'"):
        ExportSpec(model=str(tiny_bert), opset=17, route="build")


def test_large_graphs_are_written_weight_by_weight(tiny_bert, tmp_path, monkeypatch):
    """The same bytes of every weight, in a file of their own where they are large, each on a page."""
    import onnx
    from onnx import numpy_helper

    spec = ExportSpec(model=str(tiny_bert))
    checkpoint = open_checkpoint(spec).checkpoint
    small, _ = write.save_graph(*_folder(build_from_weights(describe(checkpoint)), tmp_path / "one"))
    monkeypatch.setattr(write, "EXTERNAL_DATA_BYTES", 10_000)
    monkeypatch.setattr(write, "_SMALL_TENSOR_BYTES", 1024)
    reads: list[str] = []
    model, loads = build_from_weights(describe(checkpoint))
    counted = {name: _count(name, load, reads) for name, load in loads.items()}
    large, data = write.save_graph(model, tmp_path / "two", "model", counted)
    assert data == ("onnx/model.onnx_data",)
    assert sorted(reads) == sorted(tensor.name for tensor in model.graph.initializer)
    inside = onnx.load(str(tmp_path / "one" / small)).graph.initializer
    outside = onnx.load(str(tmp_path / "two" / large)).graph.initializer
    for a, b in zip(inside, outside, strict=True):
        assert_allclose(numpy_helper.to_array(a), numpy_helper.to_array(b), rtol=0, atol=0)
    for tensor in onnx.load(str(tmp_path / "two" / large), load_external_data=False).graph.initializer:
        stated = {entry.key: int(entry.value) for entry in tensor.external_data if entry.key != "location"}
        assert stated.get("offset", 0) % 4096 == 0


def _folder(made, folder: Path):
    return made[0], folder, "model", made[1]


def _count(name: str, load: Load, reads: list[str]) -> Load:
    def counted():
        reads.append(name)
        return load()

    return counted


def test_the_manifest_names_the_passes_that_would_undo_the_choices(tiny_bert, tmp_path):
    bundle = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))
    disabled = load_manifest(bundle).variants["fp32"].disabled_optimizers
    assert disabled == ("SkipLayerNormFusion", "BiasGeluFusion")
    assert tiny_kinds.read_config(bundle)["model_type"] == "bert"
