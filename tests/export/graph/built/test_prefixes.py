"""A decoder's graph after a prefix, against transformers on whole texts."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from tests.export.graph.test_graphs import built_from
from tests.families.groups import BUILT, LOCAL
from tests.families.tiny import facts, seeded

from embedge.manifest import PREFIX_TOKENS, made_names, prefix_names
from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.families.table import FAMILIES, read_encoder
from embedge_export.graph.attention import prefix_of
from embedge_export.graph.built.cpu_attention import takes_prefix
from embedge_export.graph.built.prefixes import offer_prefix
from embedge_export.source.torch_model import quiet
from embedge_export.write.graph_files import save_graph

DECODERS = [name for name in BUILT if FAMILIES[name].pooling == "LAST" and name in LOCAL]
QUIET = 3
"""onnxruntime warns of inputs that may be left out."""


def encoder_of(family: str, folder, **changes):
    with quiet():
        model = seeded(family, **changes)
        model.save_pretrained(folder / "m")
    return model, read_encoder(facts(model.config, family))


@pytest.mark.parametrize("family", DECODERS)
def test_texts_after_a_prefix_have_the_numbers_of_transformers(family, tmp_path):
    import torch

    model, encoder = encoder_of(family, tmp_path)
    if not takes_prefix(encoder):
        pytest.skip("it has windows, or scores of another form")
    graph, loads = built_from(family, model, tmp_path / "m")
    offer_prefix(graph, encoder)
    file, _ = save_graph(graph, tmp_path, "model", loads)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    session = onnxruntime.InferenceSession(str(tmp_path / file), options, providers=["CPUExecutionProvider"])
    layers = range(prefix_of(encoder, None).num_layers)
    given = [name for layer in layers for name in prefix_names(layer)]
    made = [name for layer in layers for name in made_names(layer)]
    random = np.random.default_rng(5)
    for count, lengths in ((1, [3]), (17, [1]), (33, [5, 12, 1])):
        lead = random.integers(5, 60, count)
        # what the first text has after the prefix does not matter
        ids = np.array([[*lead, 9, 9]])
        prefix = session.run(
            made,
            {"input_ids": ids, "attention_mask": np.ones_like(ids), PREFIX_TOKENS: np.array([count])},
        )
        rows = [random.integers(5, 60, length) for length in lengths]
        ids, mask = np.zeros((2, len(rows), max(lengths)), np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        feeds = {"input_ids": ids, "attention_mask": mask, **dict(zip(given, prefix, strict=True))}
        states, *kept = session.run(["last_hidden_state", *made], feeds)
        assert all(each.size == 0 for each in kept)
        gate = FAMILIES[family].max_abs_diff
        for place, row in enumerate(rows):
            whole = torch.from_numpy(np.concatenate([lead, row])[None])
            with torch.inference_mode():
                expected = model(input_ids=whole, attention_mask=torch.ones_like(whole)).last_hidden_state[0]
            np.testing.assert_allclose(states[place, : len(row)], expected[count:].numpy(), atol=gate)


@pytest.mark.parametrize(
    ("family", "changes", "can"),
    [
        ("qwen3", {}, True),
        ("llama", {}, True),
        ("qwen3", {"head_dim": 12}, True),
        ("gemma3_text", {"layer_types": [SLIDING, FULL]}, True),
        ("gemma3_text", {"layer_types": [SLIDING, FULL], "use_bidirectional_attention": True}, False),
        ("modernbert", {}, False),
        ("bert", {}, False),
    ],
)
def test_which_graphs_can(family, changes, can, tmp_path):
    if family not in LOCAL:
        pytest.skip("transformers 4 has no class of that name")
    assert takes_prefix(encoder_of(family, tmp_path, **changes)[1]) == can
