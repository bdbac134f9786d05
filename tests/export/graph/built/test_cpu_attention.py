"""Attention on the CPU in each of its forms, at the lengths where they change, against transformers."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from tests.export.graph.test_graphs import built_from
from tests.families.groups import LOCAL
from tests.families.tiny import facts, seeded

from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.families.table import read_encoder
from embedge_export.graph.attention import AttentionFacts, facts_of_built
from embedge_export.graph.built.causal_blocks import BLOCK
from embedge_export.graph.built.cpu_attention import form_of
from embedge_export.graph.built.windows import sizes_of
from embedge_export.source.torch_model import quiet
from embedge_export.write.graph_files import save_graph

BOTH = {"layer_types": [SLIDING, FULL]}
CASES = [
    ("modernbert", {}, {"flash", "windowed"}),
    ("modernbert", {"local_attention": 200}, {"flash", "windowed"}),
    ("gemma3_text", BOTH, {"causal", "windowed"}),
    ("gemma3_text", {**BOTH, "use_bidirectional_attention": True}, {"flash", "windowed"}),
    ("gemma3_text", {"sliding_window": 1100}, {"blocks"}),
    ("gemma2", {}, {"blocks", "windowed"}),
    ("gemma2", {"sliding_window": 1100}, {"blocks"}),
    ("ministral", {}, {"causal", "windowed"}),
    ("ministral3", {}, {"causal"}),
    ("qwen3", {}, {"causal"}),
    ("qwen3", {"head_dim": 12}, {"blocks"}),
    ("eurobert", {}, {"flash"}),
    ("nomic_bert", {}, {"flash"}),
]


def opened(family, changes, folder):
    """A session of the built graph, transformers' model, and what the encoder is made of."""
    with quiet():
        model = seeded(family, **changes)
        model.save_pretrained(folder / "m")
    file, _ = save_graph(*_folder_first(built_from(family, model, folder / "m"), folder))
    session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    return session, model, read_encoder(facts(model.config, family))


def _folder_first(made, folder):
    graph, loads = made
    return graph, folder, "model", loads


def answer(session, rows, seq_len=None):
    """Hidden states of texts, padded on the right."""
    seq_len = seq_len or max(map(len, rows))
    ids, mask = np.zeros((2, len(rows), seq_len), np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    states = session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})[0]
    return [states[place, : len(row)] for place, row in enumerate(rows)]


def expected(model, row):
    import torch

    with torch.inference_mode():
        ids = torch.from_numpy(row[None])
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].numpy()


@pytest.mark.parametrize(("family", "changes", "forms"), CASES)
def test_every_form_has_the_numbers_of_transformers(family, changes, forms, tmp_path):
    if family not in (*LOCAL, "nomic_bert"):
        pytest.skip("transformers 4 has no class of that name")
    session, model, encoder = opened(family, changes, tmp_path)
    assert {form_of(layer.attention) for layer in encoder.layers} == forms
    windows = [sizes_of(each.attention) for each in encoder.layers if form_of(each.attention) == "windowed"]
    edges = {edge for sizes in windows for edge in (sizes.one_block, sizes.queries, sizes.queries * 3)}
    if "blocks" in forms:
        edges |= {16, BLOCK, 2 * BLOCK}
    # beyond the largest window
    edges |= {1300} if "blocks" in forms and changes.get("sliding_window") else set()
    lengths = sorted({1, 7, 200, *edges, *(edge + 1 for edge in edges)})
    random = np.random.default_rng(5)
    rows = [random.integers(5, 60, length) for length in lengths]
    gate = 1e-4 if family.startswith("gemma") else 1e-5
    for row, alone, together in zip(
        rows, (answer(session, [row])[0] for row in rows), answer(session, rows), strict=True
    ):
        wanted = expected(model, row)
        np.testing.assert_allclose(alone, wanted, atol=gate)
        np.testing.assert_allclose(together, wanted, atol=gate)


@pytest.mark.parametrize(("family", "changes"), [("modernbert", {}), ("gemma3_text", BOTH), ("qwen3", {})])
def test_padding_changes_no_bit_within_the_limits_of_the_manifest(family, changes, tmp_path):
    session, _, encoder = opened(family, changes, tmp_path)
    stated = facts_of_built(encoder)
    assert stated.attention_block is not None
    random = np.random.default_rng(5)
    for length in (5, 40, 90, *stated.switch_lengths, *(edge + 1 for edge in stated.switch_lengths), 190):
        row = random.integers(5, 60, length)
        last = min((edge for edge in stated.switch_lengths if edge >= length), default=length + 70)
        for padded in range(length + 1, min(last, length + 20)):
            if (length - 1) % stated.attention_block == 0:
                continue
            np.testing.assert_array_equal(answer(session, [row], padded)[0], answer(session, [row])[0])


@pytest.mark.parametrize(
    ("family", "changes"), [("gemma2", {"sliding_window": 1100}), ("qwen3", {"head_dim": 12})]
)
def test_neither_padding_nor_company_changes_a_bit_of_blocks(family, changes, tmp_path):
    session, _, encoder = opened(family, changes, tmp_path)
    random = np.random.default_rng(5)
    (edge,) = facts_of_built(encoder).switch_lengths
    for lengths in ((1, 2, 15, 16, 17, 33, 40, edge), (edge + 1, 100, 128, 129, 300)):
        rows = [random.integers(5, 60, length) for length in lengths]
        for row, together in zip(rows, answer(session, rows), strict=True):
            np.testing.assert_array_equal(answer(session, [row])[0], together)


@pytest.mark.parametrize("changes", [{}, {"head_dim": 12}])
def test_a_causal_graph_refuses_padding_before_a_text(changes, tmp_path):
    session, _, _ = opened("qwen3", changes, tmp_path)
    ids = np.full((2, 4), 7)
    for mask in ([0, 1, 1, 1], [1, 0, 1, 1]):
        with pytest.raises(Exception, match="out of data bounds"):
            session.run(None, {"input_ids": ids, "attention_mask": np.array([[1, 1, 1, 1], mask])})


def test_what_the_manifest_tells():
    bert = {"model_type": "bert", "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": 64, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
            "hidden_act": "gelu"}  # fmt: skip
    assert facts_of_built(read_encoder(bert)) == AttentionFacts(attention_block=17)
