"""The forward in numpy is what transformers computes: every family, every head, every option of the structure."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from tests.families.groups import BUILT, WITH_HEADS
from tests.families.tiny import TINY, VOCAB_SIZE, facts, seeded

from embedge_export.families import structure
from embedge_export.families.table import FAMILIES, read_encoder, read_head
from embedge_export.graph.built.weights import StoredWeights
from embedge_export.source.torch_model import quiet
from embedge_export.verify.forward import arithmetic
from embedge_export.verify.forward.encoder import Forward

LENGTHS = (1, 2, 9, 40, 64)
"""One token, and more than twice the widest window."""
HEADS = {
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "vocabulary": "ForMaskedLM",
}
HEAD_CELLS = [(name, kind) for name in WITH_HEADS for kind in HEADS]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
PLAIN = {"rope_type": "default", "rope_theta": 500.0}
OPTIONS = [
    ("bert", {"hidden_act": "gelu_new"}),
    ("bert", {"hidden_act": "relu"}),
    ("bert", {"type_vocab_size": 5}),
    ("deberta", {"pos_att_type": ["c2p"], "max_relative_positions": 20}),
    ("deberta", {"pos_att_type": ["p2c"], "position_biased_input": False}),
    ("deberta", {"relative_attention": False}),
    ("deberta-v2", {"share_att_key": True, "norm_rel_ebd": "layer_norm"}),
    ("deberta-v2", {"pos_att_type": ["c2p"], "position_buckets": -1, "max_relative_positions": 20}),
    ("deberta-v2", {"pos_att_type": ["p2c"], "position_biased_input": False}),
    ("llama", {"rope_parameters": YARN, "attention_bias": True, "mlp_bias": True}),
    ("qwen3", {"is_causal": False}),
    ("mistral", {"sliding_window": 5}),
    ("gemma2", {"attn_logit_softcapping": 1.5, "query_pre_attn_scalar": 9}),
    ("gemma2", {"attn_logit_softcapping": None, "attention_bias": True}),
    ("gemma2", {"is_causal": False, "attn_logit_softcapping": 1.5}),
    ("granite", {"attention_bias": True, "mlp_bias": True, "residual_multiplier": 0.1}),
    (
        "modernbert-decoder",
        {"local_attention": 6, "norm_bias": True, "mlp_bias": True, "attention_bias": True},
    ),
    ("olmo2", {"attention_bias": True, "is_causal": False}),
    (
        "olmo3",
        {
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_theta": 500.0, "rope_type": "default"},
            }
        },
    ),
    (
        "smollm3",
        {
            "use_sliding_window": True,
            "sliding_window": 5,
            "no_rope_layer_interval": 2,
            "no_rope_layers": None,
        },
    ),
    ("gemma3_text", {"use_bidirectional_attention": True}),
    ("deberta-v2", {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}),
    ("deberta-v2", {"pos_att_type": ["c2p"], "max_relative_positions": 12, "position_buckets": -1}),
    ("deberta-v2", {"relative_attention": False}),
    ("modernbert", {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "local_attention": 2}),
]


def saved(folder, name, tail="Model", **changes):
    """A family's tiny model, and the numpy forward of what save_pretrained wrote of it."""
    with quiet():
        model = seeded(name, tail, **changes)
        model.save_pretrained(folder)
    config = facts(model.config, name)
    return model, config, Forward(read_encoder(config), weights_of(name, folder))


def weights_of(name, folder):
    row = FAMILIES[name]
    return StoredWeights([folder / "model.safetensors"], row.prefixes, row.renames)


def texts(name):
    """Token ids of every length, and types where the family has any; none is the padding id, which some count."""
    generator = np.random.default_rng(1)
    for length in LENGTHS:
        ids = generator.integers(4, VOCAB_SIZE, length)
        yield ids, np.arange(length) * 2 // length if "token_type_ids" in takes(name) else None


def takes(name):
    return (
        ("token_type_ids",)
        if name in ("albert", "bert", "electra", "gte", "jina_embeddings_v3", "nomic_bert")
        else ()
    )


def asked(model, ids, types=None, attended=None):
    import torch

    mask = [1] * len(ids) if attended is None else attended
    given = {"input_ids": torch.tensor([ids.tolist()]), "attention_mask": torch.tensor([mask])}
    if types is not None:
        given["token_type_ids"] = torch.tensor([types.tolist()])
    with torch.inference_mode():
        return model(**given)[0][0].numpy()


def largest(actual, expected):
    """Largest difference, as a share of the largest number where that is more than 1."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / max(1.0, np.abs(expected).max()))


def worst(model, forward, name):
    return max(
        largest(forward.hidden_states(ids, () if types is None else types), asked(model, ids, types))
        for ids, types in texts(name)
    )


@pytest.mark.parametrize("name", BUILT)
def test_every_family_is_computed_as_by_its_own_class(name, tmp_path):
    model, _, forward = saved(tmp_path, name)
    assert worst(model, forward, name) <= 1e-5


@pytest.mark.parametrize(("name", "changes"), OPTIONS, ids=lambda value: str(value))
def test_every_option_of_a_family_is_computed(name, changes, tmp_path):
    model, _, forward = saved(tmp_path, name, **changes)
    assert worst(model, forward, name) <= 1e-5


@pytest.mark.parametrize(("name", "kind"), HEAD_CELLS)
def test_every_head_is_computed_as_by_its_own_class(name, kind, tmp_path):
    import transformers

    if not hasattr(transformers, TINY[name].classes + HEADS[kind]):
        pytest.skip("transformers has no such class")
    labels = {} if kind == "vocabulary" else {"num_labels": 3}
    model, config, forward = saved(tmp_path, name, HEADS[kind], **labels)
    head = read_head(config, kind)
    for ids, types in texts(name):
        rows = forward.hidden_states(ids, () if types is None else types)
        assert largest(forward.logits(head, rows), asked(model, ids, types)) <= 1e-5


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_heads_pool_as_the_configuration_says(pooling, tmp_path):
    model, config, forward = saved(tmp_path, "modernbert", HEADS["sequence"], classifier_pooling=pooling)
    ids = np.arange(4, 30)
    logits = forward.logits(read_head(config, "sequence"), forward.hidden_states(ids))
    assert largest(logits, asked(model, ids)) <= 1e-5


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_tokens_that_are_not_attended_to_and_padding_in_a_text(name, tmp_path):
    model, _, forward = saved(tmp_path, name)
    ids = np.array([5, 6, 0, 7, 0, 0, 8])
    assert largest(forward.hidden_states(ids), asked(model, ids)) <= 1e-5
    seen = [1, 1, 1, 0, 1, 0, 0]
    actual, expected = forward.hidden_states(ids, (), seen), asked(model, ids, attended=seen)
    assert largest(actual, expected) <= 1e-5
    assert largest(actual, forward.hidden_states(ids)) > 1e-3


@pytest.mark.parametrize("name", ["bert", "mistral", "modernbert", "mpnet"])
def test_queries_may_be_taken_some_at_a_time(name, tmp_path, monkeypatch):
    model, _, forward = saved(tmp_path, name)
    monkeypatch.setattr("embedge_export.verify.forward.attention._SCORES", 4 * 40 * 7)
    assert worst(model, forward, name) <= 1e-5


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_weights_of_less_precision_are_computed_in_float32(precision, tmp_path):
    import torch

    model, _, _ = saved(tmp_path / "a", "bert")
    half = model.to(getattr(torch, precision))
    half.save_pretrained(tmp_path / "b")
    forward = Forward(read_encoder(facts(model.config, "bert")), weights_of("bert", tmp_path / "b"))
    assert worst(half.float(), forward, "bert") <= 1e-5


@pytest.mark.parametrize("part", ["weight", "norm", "window", "rotation", "scale"])
def test_what_is_wrong_is_noticed(part, tmp_path):
    """A comparison that passes whatever is computed would show nothing."""
    name = "modernbert"
    model, config, _ = saved(tmp_path, name)
    encoder = read_encoder(config)
    layers = list(encoder.layers)
    last = layers[-1]
    if part == "weight":
        import torch

        with torch.no_grad():
            model.layers[1].mlp.Wo.weight[3, 5] += 0.05
    elif part == "norm":
        swapped = {
            "around_attention": last.around_feed_forward,
            "around_feed_forward": last.around_attention,
        }
        layers[-1] = msgspec.structs.replace(last, **swapped)
    else:
        changed = {
            "window": {"window": (3, 4)},
            "rotation": {"rotary": msgspec.structs.replace(last.attention.rotary, scale=1.01)},
            "scale": {"scale": last.attention.scale * 1.01},
        }[part]
        layers[-1] = msgspec.structs.replace(
            last, attention=msgspec.structs.replace(last.attention, **changed)
        )
    other = msgspec.structs.replace(encoder, layers=tuple(layers))
    forward = Forward(other, weights_of(name, tmp_path))
    assert worst(model, forward, name) > 1e-4


@pytest.mark.parametrize(
    ("name", "torch_name", "limit"),
    [("gelu", "gelu", 3e-7), ("gelu_tanh", "gelu", 3e-7), ("silu", "silu", 3e-7), ("tanh", "tanh", 2e-7)],
)
def test_activations_are_as_accurate_as_float32(name, torch_name, limit):
    import torch

    numbers = np.concatenate([np.linspace(-8, 8, 200_001), [-200.0, 0.0, 200.0]]).astype(np.float32)
    wide = torch.from_numpy(numbers.astype(np.float64))
    function = getattr(torch.nn.functional, torch_name)
    expected = function(wide, approximate="tanh") if name == "gelu_tanh" else function(wide)
    actual = arithmetic.activated(numbers.copy(), name)
    errors = np.abs(actual - expected.numpy()) / np.maximum(1.0, np.abs(numbers))
    assert errors.max() <= limit
    assert math.isclose(actual[-1], float(expected[-1]), rel_tol=1e-6)


def test_the_forward_knows_every_field_of_the_structure():
    """A field that is new there has to be computed here as well, and then to be named here."""
    fields = {
        name: " ".join(part.__struct_fields__)
        for name, part in vars(structure).items()
        if isinstance(part, type) and issubclass(part, structure._Part) and part is not structure._Part
    }
    assert fields == {
        "Attention": "query key value output num_heads num_kv_heads head_dim scale query_norm key_norm "
        "norms_of rotary growth softcap causal window relative disentangled",
        "Disentangled": "table row_at norm key query",
        "Embedding": "words positions types types_input scale norm projection",
        "Encoder": "embedding layers hidden_size vocab_size final_norm relative",
        "FeedForward": "up down activation gate",
        "Growth": "rate length",
        "Head": "last pooling passed_over_id first activation norm",
        "Layer": "attention feed_forward around_attention around_feed_forward",
        "LearntPositions": "table kind padding_id",
        "Linear": "weight bias",
        "Norm": "kind epsilon weight bias",
        "RelativeBias": "table max_distance",
        "Rotary": "frequencies scale",
        "Sublayer": "norm_in norm_out norm_after scale",
        "Tensor": "name shape rows share offset",
        "WordLogits": "divisor cap",  # by verify/in_numpy
    }


def test_nothing_of_the_graphs_that_it_checks_takes_part():
    import ast
    from pathlib import Path

    for path in Path(arithmetic.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("embedge_export.graph"):
                assert node.module == "embedge_export.graph.built.weights"
