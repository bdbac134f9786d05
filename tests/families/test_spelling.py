"""Both generations' words for rotary positions, kinds of layers and directions, read to one structure."""

from __future__ import annotations

from typing import Any

import pytest
from tests.families.tiny import config, facts

from embedge_export.families.parts import UnsupportedError
from embedge_export.families.spelling import FULL, SLIDING, in_new_words, steady_length
from embedge_export.families.table import read_encoder

OLD = ("rope_theta", "rope_scaling", "rope_local_base_freq", "global_rope_theta", "local_rope_theta")
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


def spelt(family: str, **words: Any) -> dict[str, Any]:
    """The family's facts, with rotary positions in these words alone."""
    left = {k: v for k, v in facts(config(family), family).items() if k not in (*OLD, "rope_parameters")}
    return left | words


PAIRS = {
    "theta": (
        "qwen3",
        {"rope_theta": 500.0, "rope_scaling": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ),
    "llama3": (
        "llama",
        {"rope_theta": 500.0, "rope_scaling": LLAMA3},
        {"rope_parameters": {**LLAMA3, "rope_theta": 500.0}},
    ),
    "yarn": (
        "qwen2",
        {"rope_theta": 500.0, "rope_scaling": {"type": "yarn", **{k: v for k, v in YARN.items() if k != "rope_type"}}},
        {"rope_parameters": {**YARN, "rope_theta": 500.0}},
    ),
    "linear": (
        "mistral",
        {"rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}},
    ),
    "gemma3": (
        "gemma3_text",
        {
            "rope_theta": 7000.0, "rope_local_base_freq": 300.0, "layer_types": [SLIDING, FULL],
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        {
            "layer_types": [SLIDING, FULL],
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 7000.0},
                SLIDING: {"rope_type": "default", "rope_theta": 300.0},
            },
        },
    ),
    "modernbert": (
        "modernbert",
        {"global_rope_theta": 7000.0, "local_rope_theta": 300.0, "layer_types": None, "global_attn_every_n_layers": 2},
        {
            "layer_types": [FULL, SLIDING],
            "rope_parameters": {
                FULL: {"rope_type": "default", "rope_theta": 7000.0},
                SLIDING: {"rope_type": "default", "rope_theta": 300.0},
            },
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_both_generations_are_read_alike(name: str) -> None:
    family, old, new = PAIRS[name]
    assert read_encoder(spelt(family, **old)) == read_encoder(spelt(family, **new))
    other = spelt(family, rope_theta=10_000.0, global_rope_theta=10_000.0, rope_local_base_freq=10_000.0)
    assert read_encoder(spelt(family, **new)) != read_encoder(other | {"layer_types": new.get("layer_types")})


def test_what_is_not_stated_is_completed() -> None:
    words = in_new_words({"num_hidden_layers": 2})
    assert words["layer_types"] == [FULL, FULL]
    assert words["is_causal"] is True
    longest = in_new_words(
        {"max_position_embeddings": 64, "rope_parameters": {"rope_type": "longrope", "rope_theta": 1.0,
         "original_max_position_embeddings": 16}}
    )  # fmt: skip
    assert longest["rope_parameters"][FULL]["factor"] == 4.0


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, 64),
        ({"rope_type": "longrope", "original_max_position_embeddings": 16}, 16),
        ({"rope_type": "yarn", "original_max_position_embeddings": 16}, None),
    ],
)
def test_up_to_where_positions_do_not_depend_on_neighbours(
    rope: dict[str, Any], expected: int | None
) -> None:
    assert steady_length({"max_position_embeddings": 64, "rope_parameters": rope}) == expected


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        (
            {"rope_type": "proportional"},
            "rope_type 'proportional' has no built graph; expected one of default",
        ),
        ({"rope_type": "default", "mrope_section": [1]}, "of type 'default' state 'mrope_section'"),
        (
            {"rope_type": "default", "partial_rotary_factor": 0.5},
            "partial_rotary_factor=0.5 has no built graph",
        ),
    ],
)
def test_rotations_that_are_not_known_are_refused_by_name(rope: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        read_encoder(spelt("llama", rope_parameters={"rope_theta": 500.0, **rope}))


def test_kinds_of_layers_that_are_not_known_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="layer_types .*chunked_attention.* have no built graph"):
        read_encoder(spelt("qwen3", rope_theta=500.0, layer_types=[FULL, "chunked_attention"]))
