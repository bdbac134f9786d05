"""Graphs for CUDA, without a GPU: their operators written in numpy, against the float32 graph of the same weights."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.gpu import models
from onnx.reference import ReferenceEvaluator
from tests.export.graph.built.cuda_operators import OPS, Absent
from tests.families import tiny
from tests.families.groups import BUILT

from embedge_export.families.table import read_encoder
from embedge_export.graph.built.build import build
from embedge_export.graph.built.choices import CUDA_BF16, CUDA_FP16
from embedge_export.graph.built.cuda import (
    build_cuda,
    for_queries,
    pad_to,
    score_heads_on_cuda,
    suited,
    twins,
    without_idle_windows,
)
from embedge_export.graph.built.weights import SeededWeights

BERT = {
    "model_type": "bert", "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 96, "vocab_size": 100, "max_position_embeddings": 40, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "bert": BERT,
    "bert, gelu_new": BERT | {"hidden_act": "gelu_new"},
    "bert, relu": BERT | {"hidden_act": "relu"},
    "roberta": BERT | {"model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1},
    "electra": BERT | {"model_type": "electra", "embedding_size": 24},
    "albert": BERT
    | {"model_type": "albert", "embedding_size": 24, "inner_group_num": 1, "num_hidden_groups": 1},
}
FORMS = [(packed, merged) for packed in (True, False) for merged in (True, False)]


def feeds(encoder, seq_len: int = 9, lengths=(4, 1, 7)) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(5, encoder.vocab_size, (1 + len(lengths), seq_len))
    mask = (np.arange(seq_len) < np.array([seq_len, *lengths])[:, None]).astype(np.int64)
    made = {"input_ids": np.where(mask, ids, 1), "attention_mask": mask}
    if encoder.embedding.types is not None and encoder.embedding.types_input:
        made["token_type_ids"] = ids % encoder.embedding.types.shape[0]
    return made


def expected(encoder, weights, inputs) -> np.ndarray:
    graph = fill(*build(encoder, weights))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def fill(graph, loads) -> onnx.ModelProto:
    for tensor in graph.graph.initializer:
        tensor.raw_data = loads[tensor.name]().tobytes()
    return graph


def made(encoder, weights, separate_from=None, **choices) -> onnx.ModelProto:
    chosen = msgspec.structs.replace(CUDA_FP16, separate_from=separate_from, **choices)
    return fill(*build_cuda(encoder, weights, chosen))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("merged", [True, False])
def test_packed_graphs_compute_what_the_float32_graph_computes(name, merged) -> None:
    encoder, weights = read_encoder(CONFIGS[name]), SeededWeights(3)
    inputs = feeds(encoder)
    graph = made(
        encoder, weights, packed=True, attention="merged" if merged else "separate", precision="fp32"
    )
    rows = ReferenceEvaluator(graph, new_ops=OPS).run(None, inputs)[0]
    assert rows.dtype == np.float32
    real = inputs["attention_mask"][..., None]
    assert np.abs((rows - expected(encoder, weights, inputs)) * real).max() < 2e-5
    assert np.abs(rows * (1 - real)).max() == 0


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("merged", [True, False])
def test_padded_graphs_do_so_in_onnxruntime(name, merged) -> None:
    encoder, weights = read_encoder(CONFIGS[name]), SeededWeights(3)
    inputs = feeds(encoder)
    graph = made(
        encoder, weights, packed=False, attention="merged" if merged else "separate", precision="fp32"
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    real = inputs["attention_mask"][..., None]
    assert np.abs((session.run(None, inputs)[0] - expected(encoder, weights, inputs)) * real).max() < 2e-5


@pytest.mark.parametrize(("packed", "merged"), FORMS)
def test_half_precision_is_in_weights_and_rows_and_not_in_the_output(packed, merged) -> None:
    encoder = read_encoder(BERT)
    graph = made(encoder, SeededWeights(0), packed=packed, attention="merged" if merged else "separate")
    types = {tensor.data_type for tensor in graph.graph.initializer}
    assert types <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    (output,) = graph.graph.output
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    kinds = [node.op_type for node in graph.graph.node]
    assert ("RemovePadding" in kinds) == packed
    assert kinds.count("SkipLayerNormalization") == 4
    assert kinds.count("BiasGelu") == 2
    names = {"attention": "Attention", "separate": "MultiHeadAttention"}
    assert kinds.count(("Packed" if packed else "") + names["attention" if merged else "separate"]) == 2


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("separate_from", "absent"),
    [
        ((9, 36), "PackedAttention"),
        ((10, 36), "PackedMultiHeadAttention"),
        ((9, 37), "PackedMultiHeadAttention"),
    ],
)
def test_long_and_large_batches_take_the_other_form(name, separate_from, absent) -> None:
    encoder, weights = read_encoder(CONFIGS[name]), SeededWeights(3)
    inputs = feeds(encoder)
    graph = made(encoder, weights, separate_from, precision="fp32")
    ops = [op for op in OPS if op.__name__ != absent] + [type(absent, (Absent,), {})]
    rows = ReferenceEvaluator(graph, new_ops=ops).run(None, inputs)[0]
    real = inputs["attention_mask"][..., None]
    assert np.abs((rows - expected(encoder, weights, inputs)) * real).max() < 2e-5
    assert np.abs(rows * (1 - real)).max() == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_both_forms_share_the_matrices(name) -> None:
    encoder, weights = read_encoder(CONFIGS[name]), SeededWeights(3)

    def matrices(**choices) -> set[str]:
        return {
            tensor.name
            for tensor in made(encoder, weights, **choices).graph.initializer
            if len(tensor.dims) > 1
        }

    assert matrices(separate_from=(128, 8192)) == matrices()


def test_a_pre_norm_encoder_keeps_its_sums() -> None:
    encoder = read_encoder(BERT)
    layers = tuple(
        msgspec.structs.replace(
            layer,
            around_attention=msgspec.structs.replace(
                layer.around_attention, norm_in=layer.around_attention.norm_after, norm_after=None
            ),
            around_feed_forward=msgspec.structs.replace(
                layer.around_feed_forward, norm_in=layer.around_feed_forward.norm_after, norm_after=None
            ),
        )
        for layer in encoder.layers
    )
    encoder = msgspec.structs.replace(encoder, layers=layers, final_norm=encoder.embedding.norm)
    inputs, weights = feeds(encoder), SeededWeights(5)
    graph = made(encoder, weights, packed=False, attention="merged", precision="fp32")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    real = inputs["attention_mask"][..., None]
    rows = session.run(None, inputs)[0]
    assert np.abs((rows - expected(encoder, weights, inputs)) * real).max() < 2e-5


PACKED = {"albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"}


@pytest.mark.parametrize("choices", [CUDA_FP16, CUDA_BF16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("name", BUILT)
def test_every_family_has_a_graph_whose_operators_in_float32_give_the_same(name, choices) -> None:
    settings = tiny.config(name, **({"sliding_window": 16} if name == "mistral" else {}))
    encoder, weights = read_encoder(tiny.facts(settings, name)), SeededWeights(3)
    inputs = feeds(encoder, seq_len=24)  # longer than any window
    real = inputs["attention_mask"][..., None]
    chosen = suited(encoder, choices)
    forms = twins(chosen)
    assert len(forms) == (
        3 if choices is CUDA_FP16 and name in PACKED else 1 if chosen.packed_below is None else 2
    )
    for form in forms:
        graph = fill(*build_cuda(encoder, weights, form))
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        assert np.abs((session.run(None, inputs)[0] - expected(encoder, weights, inputs)) * real).max() < 5e-5


TURNED = {"gte", "modernbert", "new", "nomic_bert"} & set(BUILT)


@pytest.mark.parametrize("name", sorted(TURNED))
def test_turned_and_windowed_encoders_are_packed(name) -> None:
    encoder, weights = read_encoder(tiny.facts(tiny.config(name), name)), SeededWeights(3)
    inputs = feeds(encoder, seq_len=24)  # longer than any window
    chosen = msgspec.structs.replace(suited(encoder, CUDA_FP16), precision="fp32")
    assert chosen.packed
    graph = fill(*build_cuda(encoder, weights, chosen))
    rows = ReferenceEvaluator(graph, new_ops=OPS).run(None, inputs)[0]
    real = inputs["attention_mask"][..., None]
    assert np.abs((rows - expected(encoder, weights, inputs)) * real).max() < 2e-5
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert kinds["PackedMultiHeadAttention"] == len(encoder.layers)
    assert kinds["RotaryEmbedding"] == 2 * len(encoder.layers)


def test_only_what_packed_operators_cannot_do_stays_padded() -> None:
    padded, by_batch = set(), set()
    for name in BUILT:
        encoder = read_encoder(tiny.facts(tiny.config(name), name))
        blocks = [layer.attention for layer in encoder.layers]
        chosen = suited(encoder, CUDA_FP16)
        if chosen.packed_below is not None:
            by_batch.add(name)
            assert any(block.causal or block.num_heads != block.num_kv_heads for block in blocks)
        elif not chosen.packed:
            padded.add(name)
            assert any(
                block.relative
                or block.disentangled is not None
                or block.softcap is not None
                or block.growth is not None
                for block in blocks
            )
        assert suited(encoder, CUDA_BF16).packed_below is None
    assert set(BUILT) - padded - by_batch >= TURNED | PACKED
    assert padded >= {"mpnet"}
    assert by_batch >= DECODERS


DECODERS = {"gemma3_text", "llama", "mistral", "qwen2", "qwen3"} & set(BUILT)


@pytest.mark.parametrize("name", sorted(DECODERS))
@pytest.mark.parametrize(
    ("packed_below", "lengths", "absent"),
    [
        ((85, 100), (4, 1, 7), "Attention"),
        ((85, 100), (21, 19, 24), "PackedMultiHeadAttention"),
        # 81 of 96 tokens, 84.4 percent, at a length of 24
        ((85, 100), (19, 19, 19), "Attention"),
        ((84, 100), (19, 19, 19), "PackedMultiHeadAttention"),
        ((88, 8), (19, 19, 19), "Attention"),
        ((87, 8), (19, 19, 19), "PackedMultiHeadAttention"),
        ((92, 51), (19, 19, 19), "Attention"),
        ((92, 1), (4, 1, 7), "Attention"),
        # so long that nothing is packed
        ((23, 1), (1, 1, 1), "PackedMultiHeadAttention"),
    ],
)
def test_ragged_batches_of_decoders_are_packed(name, packed_below, lengths, absent) -> None:
    settings = tiny.config(name, **({"sliding_window": 16} if name == "mistral" else {}))
    encoder = read_encoder(tiny.facts(settings, name))
    assert difference(encoder, packed_below, lengths, absent) < 5e-5


def difference(encoder, packed_below, lengths, absent: str) -> float:
    """From the float32 graph, of a batch that must not take the branch with that operator."""
    weights, inputs = SeededWeights(3), feeds(encoder, seq_len=24, lengths=lengths)
    choices = msgspec.structs.replace(suited(encoder, CUDA_FP16), precision="fp32", packed_below=packed_below)
    graph = fill(*build_cuda(encoder, weights, choices))
    assert Counter(tensor.name for tensor in graph.graph.initializer).most_common(1)[0][1] == 1
    domain = "" if absent == "Attention" else "com.microsoft"
    other = type(absent, (Absent,), {"op_domain": domain})
    ops = [op for op in OPS if op.__name__ != absent] + [other]
    rows = ReferenceEvaluator(graph, new_ops=ops).run(None, inputs)[0]
    real = inputs["attention_mask"][..., None]
    return np.abs((rows - expected(encoder, weights, inputs)) * real).max()


SHARED_KEYS = [("eurobert", {}), ("gemma3_text", {"use_bidirectional_attention": True})]


@pytest.mark.parametrize(
    ("name", "changes"), [pytest.param(*each, id=each[0]) for each in SHARED_KEYS if each[0] in BUILT]
)
def test_ragged_batches_of_encoders_whose_heads_share_keys_are_packed(name, changes) -> None:
    encoder = read_encoder(tiny.facts(tiny.config(name, **changes), name))
    blocks = [layer.attention for layer in encoder.layers]
    assert all(not block.causal and block.num_kv_heads < block.num_heads for block in blocks)
    # with padding, the twins run in onnxruntime; onnx's evaluator takes an input that is left out for another
    assert difference(encoder, (92, 51), (4, 1, 7), "Attention") < 5e-5


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_single_queries_of_decoders_have_a_graph_without_branches_on_the_same_weights(name) -> None:
    encoder = read_encoder(tiny.facts(tiny.config(name), name))
    chosen = suited(encoder, CUDA_FP16)
    single, batches = (
        build_cuda(encoder, SeededWeights(3), form)[0].graph for form in (for_queries(chosen), chosen)
    )
    assert {node.op_type for node in batches.node} >= {"If"}
    assert not {node.op_type for node in single.node} & {"If", "RemovePadding"}
    names = [
        {tensor.name for tensor in graph.initializer if not tensor.name.startswith("constant")}
        for graph in (single, batches)
    ]
    assert names[0] == names[1]


def test_heads_are_turned_several_at_once() -> None:
    """The operator takes one time for each head it knows of; it is told of wide ones."""
    encoder = read_encoder(MEASURED["modernbert"])
    graph, _ = build_cuda(encoder, SeededWeights(0), suited(encoder, CUDA_FP16))
    block = encoder.layers[0].attention
    turns = [node for node in graph.graph.node if node.op_type == "RotaryEmbedding"]
    for node in turns:
        stated = {item.name: item.i for item in node.attribute}
        assert stated["interleaved"] == 1
        assert 128 <= block.num_heads * block.head_dim // stated["num_heads"] <= 256


MEASURED = models.families()
"""Larger ones, which the benchmark runs on a GPU."""


@pytest.mark.parametrize("name", MEASURED)
def test_bfloat16_is_in_weights_and_not_in_the_output(name) -> None:
    graph = onnx.load_from_string(models.family_graphs(name, "bf16")[1]).graph
    sizes: Counter[int] = Counter()
    for tensor in graph.initializer:
        sizes[tensor.data_type] += math.prod(tensor.dims)
    assert sizes[onnx.TensorProto.FLOAT16] == 0
    assert sizes[onnx.TensorProto.FLOAT] < 0.01 * sizes[onnx.TensorProto.BFLOAT16]
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [node.op_type for node in graph.node].count("Attention") == 3


def test_angles_and_distances_stay_in_float32() -> None:
    graph = onnx.load_from_string(models.family_graphs("modernbert", "fp16")[1]).graph
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    nodes = [node for node in graph.node if node.name.startswith("places/") and node.op_type != "Where"]
    assert {"Cos", "Sin", "Greater", "Less"} <= {node.op_type for node in nodes}
    assert not any(name in halves for node in nodes for name in node.input)


def attentions(name: str, max_seq_len: int) -> list[onnx.NodeProto]:
    encoder = without_idle_windows(read_encoder(MEASURED[name]), max_seq_len)
    graph, _ = build_cuda(encoder, SeededWeights(0), suited(encoder, CUDA_FP16))
    return [node for node in graph.graph.node if node.op_type == "Attention"]


@pytest.mark.parametrize(
    ("name", "max_seq_len", "num_inputs", "causal"),
    [
        ("qwen3", 512, 3, 1),
        ("mistral", 512, 4, 0),
        ("mistral", 16, 3, 1),  # its window of 16 hides nothing there
        ("mpnet", 512, 7, 0),
    ],
)
def test_masks_are_written_where_they_hide_something(name, max_seq_len, num_inputs, causal) -> None:
    for node in attentions(name, max_seq_len):
        assert len(node.input) == num_inputs
        assert next(item.i for item in node.attribute if item.name == "is_causal") == causal


def test_what_a_graph_asks_of_batches_is_known() -> None:
    encoders = {name: read_encoder(config) for name, config in MEASURED.items()}
    asked = {name: pad_to(encoder, suited(encoder, CUDA_FP16)) for name, encoder in encoders.items()}
    assert {name for name, multiple in asked.items() if multiple == 8} == {
        "mpnet", "modernbert", *DECODERS,
    }  # fmt: skip
    asked = {name: pad_to(encoder, suited(encoder, CUDA_BF16)) for name, encoder in encoders.items()}
    assert {name for name, multiple in asked.items() if multiple == 8} == {
        "mpnet", "modernbert", "mistral", "gemma3_text",
    }  # fmt: skip
    assert score_heads_on_cuda(encoders["qwen3"]) is None
    assert score_heads_on_cuda(read_encoder(BERT | {"hidden_size": 36})) == 3
