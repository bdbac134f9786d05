"""Causal attention of long texts in 8 bits, against the float32 graph that it is made of."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from tests.export.graph.built.test_cpu_attention import BOTH, answer
from tests.export.graph.test_graphs import built_from
from tests.families.tiny import facts, seeded

from embedge._contents.graph import read_graph
from embedge._contents.graph_loops import MOST_ROUNDS
from embedge.manifest import PREFIX_TOKENS, made_names
from embedge_export.families.table import read_encoder
from embedge_export.graph.built import canvas
from embedge_export.graph.built.prefixes import offer_prefix
from embedge_export.source.torch_model import quiet
from embedge_export.variants.int8_attention import LongAttention, attend_in_int8, long_attention
from embedge_export.variants.int8_blocks import BLOCK
from embedge_export.write.graph_files import save_graph

onnx = pytest.importorskip("onnx")


def made(family, folder, *, prefix=False, **changes):
    """The built graph in float32 and with its long texts in 8 bits, and what the latter's manifest tells."""
    with quiet():
        model = seeded(family, **changes)
        model.save_pretrained(folder / "m")
    graph, loads = built_from(family, model, folder / "m")
    encoder = read_encoder(facts(model.config, family))
    if prefix:
        offer_prefix(graph, encoder)
    file, _ = save_graph(graph, folder, "model", loads)
    model_proto = onnx.load(str(folder / file))
    plain = model_proto.SerializeToString()
    long = long_attention(encoder, 2048)
    if long is not None:
        attend_in_int8(model_proto, long)
    return plain, model_proto.SerializeToString(), long


def opened(graph):
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("changes", [{}, {"num_attention_heads": 4, "num_key_value_heads": 4}])
def test_long_texts_have_the_numbers_of_float32(changes, tmp_path):
    plain, graph, long = made("qwen3", tmp_path, **changes)
    assert long is not None
    exact, session = opened(plain), opened(graph)
    random = np.random.default_rng(5)
    first = long.switch_length + 1
    rows = [random.integers(5, 60, length) for length in (first, 512, 513, 700)]
    wanted = answer(exact, rows)
    for row, found, together in zip(rows, wanted, answer(session, rows), strict=True):
        alone = answer(session, [row])[0]
        # neither its neighbours nor padding change a bit
        np.testing.assert_array_equal(alone, together)
        assert 0 < error(alone, found) < 0.01


def test_short_texts_stay_as_they_are(tmp_path):
    plain, graph, long = made("qwen3", tmp_path)
    assert long is not None
    rows = [np.random.default_rng(5).integers(5, 60, length) for length in (1, BLOCK, long.switch_length)]
    for found, wanted in zip(answer(opened(graph), rows), answer(opened(plain), rows), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_what_stands_out_costs_the_others_nothing(tmp_path):
    """A token with nearly all the weight leaves the rest of the text its part."""
    from embedge_export.graph.built.canvas import Canvas

    seq_len, size = 700, 16
    random = np.random.default_rng(5)
    q, k, v = (random.standard_normal((1, seq_len, size)).astype(np.float32) for _ in range(3))
    q[..., 0], k[..., 0], k[0, 0, 0] = 4, 0, 9
    v[0, 0] = 0
    canvas = Canvas()
    canvas.scope("layer")
    last = canvas.constant([seq_len - 1], np.int32)
    total = canvas.constant(seq_len, np.int32)
    kernel = canvas.ops("GroupQueryAttention", "q", "k", "v", "", "", last, total, domain="com.microsoft",
                        outputs=3, num_heads=1, kv_num_heads=1, scale=0.25)  # fmt: skip
    graph = canvas.model(["attention_mask"], [(kernel[0], ["batch", "seq_len", size], 1)])
    for name in "qkv":
        graph.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, ["batch", "seq_len", size]))
    for tensor in graph.graph.initializer:
        tensor.raw_data = np.asarray(canvas.loads()[tensor.name]()).tobytes()
    feeds = {"q": q, "k": k, "v": v, "attention_mask": np.ones((1, seq_len), np.int64)}
    wanted = opened(graph.SerializeToString()).run(None, feeds)[0]
    attend_in_int8(graph, LongAttention(switch_length=448, window_numbers=1))
    found = opened(graph.SerializeToString()).run(None, feeds)[0]
    assert error(found, wanted) < 0.03


def test_a_prefix_is_taken_from_both_forms(tmp_path):
    plain, graph, _ = made("qwen3", tmp_path, prefix=True)
    for seq_len in (40, 500):
        ids = np.random.default_rng(5).integers(5, 60, (1, seq_len))
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), PREFIX_TOKENS: np.array([30])}
        wanted, found = (opened(each).run(list(made_names(0)), feeds) for each in (plain, graph))
        for one, other in zip(found, wanted, strict=True):
            assert one.shape[2] == 30
            np.testing.assert_array_equal(one, other)


def test_a_bundle_may_hold_such_a_graph(tmp_path):
    _, graph, long = made("qwen3", tmp_path)
    facts_of = read_graph(graph, "model.onnx")
    assert (facts_of.problems, facts_of.operators[":Loop"]) == ((), 2)
    assert canvas.MOST_ROUNDS <= MOST_ROUNDS
    assert long == LongAttention(switch_length=448, window_numbers=3 * BLOCK * 4)


@pytest.mark.parametrize(
    ("family", "changes", "max_seq_len"),
    [
        ("qwen3", {}, 448),
        ("modernbert", {}, 2048),
        ("gemma2", {"sliding_window": 2000}, 4096),
        ("gemma3_text", {"sliding_window": 2000, "layer_types": BOTH["layer_types"][:1] * 2}, 4096),
    ],
)
def test_what_is_short_windowed_capped_or_of_encoders_is_left_alone(family, changes, max_seq_len):
    with quiet():
        config = seeded(family, **changes).config
    assert long_attention(read_encoder(facts(config, family)), max_seq_len) is None
