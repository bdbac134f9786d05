"""A config.json with what it leaves open filled in, as the architecture's class in transformers would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge_export.families.spelling import FULL, SLIDING

_OLD_ROTATION = ("partial_rotary_factor", "rope_scaling")
_NUM_LABELS = 2


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an architecture's configuration without its library.

    Attributes:
        classes: what the names of its classes begin with.
        values: by key; None where it follows from others, or stands for nothing. These are the keys that are read.
        idle: keys that cannot change what is built, whatever they say.
        only: keys that nothing here reads, with the values at which they change nothing.
        names: other names of keys.
        meant: by key, values that today's class takes for others.
        theta: base of the rotation in each kind of layer, where it rotates.
        theta_names: keys of the generation before 5 that state `theta`.
        scaled: kinds of layers that the older rope_scaling is of.
        rotation: rope_parameters where config.json states none; None for what stands outside of them.
        has_two_rotations: kinds of layers rotate otherwise, so that rope_parameters holds one entry for each.
        full_every: each so many-th layer has no window, where config.json does not say which; 0 where it depends on
            other keys.
    """

    classes: str
    values: Mapping[str, Any]
    idle: tuple[str, ...] = ()
    only: Mapping[str, tuple[Any, ...]] = msgspec.field(default_factory=dict)
    names: Mapping[str, str] = msgspec.field(default_factory=dict)
    meant: Mapping[str, Mapping[Any, Any]] = msgspec.field(default_factory=dict)
    theta: Mapping[str, float] = msgspec.field(default_factory=dict)
    theta_names: Mapping[str, str] = msgspec.field(default_factory=dict)
    scaled: tuple[str, ...] = (FULL, SLIDING)
    rotation: Mapping[str, Any] = msgspec.field(default_factory=dict)
    has_two_rotations: bool = False
    full_every: int = 0


def keys_of(row: Defaults) -> frozenset[str]:
    """Keys that `complete` reads."""
    known = {*row.values, *row.names, "id2label", "label2id", "model_type", "num_labels"}
    return frozenset(known | {*row.theta_names, *_OLD_ROTATION} if row.theta else known)


def complete(stated: Mapping[str, Any], row: Defaults) -> dict[str, Any]:
    """Fill in what a configuration leaves open.

    Args:
        stated: config.json, in the words of either generation.
        row: of its architecture.

    Returns:
        What config_facts gives with transformers, for the keys that readers of families ask for.
    """
    known = keys_of(row)
    facts = {row.names.get(key, key): value for key, value in stated.items() if key in known}
    facts = {**row.values, **facts}
    for key, values in row.meant.items():
        facts[key] = values.get(facts[key], facts[key])
    facts["id2label"] = _labels(facts)
    if "is_causal" in stated:
        facts["is_causal"] = stated["is_causal"]  # which no class has, and the masks of all of them ask for
    if "head_dim" in facts and facts["head_dim"] is None:
        facts["head_dim"] = int(facts["hidden_size"]) // int(facts["num_attention_heads"])
    if "num_key_value_heads" in facts and facts["num_key_value_heads"] is None:
        facts["num_key_value_heads"] = facts["num_attention_heads"]
    if "pooler_hidden_size" in facts and facts["pooler_hidden_size"] is None:
        facts["pooler_hidden_size"] = facts["hidden_size"]
    if isinstance(facts.get("pos_att_type"), str):
        facts["pos_att_type"] = [part.strip() for part in facts["pos_att_type"].lower().split("|")]
    if "use_sliding_window" in facts and not facts["use_sliding_window"]:
        facts["sliding_window"] = None
    if "local_attention" in facts and facts.get("sliding_window", 0) is None:
        facts["sliding_window"] = int(facts["local_attention"]) // 2
    if facts.get("use_bidirectional_attention") and facts.get("sliding_window") is not None:
        facts["sliding_window"] = int(facts["sliding_window"]) // 2 + 1  # as it counts from the token itself
    if "no_rope_layers" in facts and facts["no_rope_layers"] is None:
        every = int(facts["no_rope_layer_interval"])
        facts["no_rope_layers"] = [
            int((index + 1) % every != 0) for index in range(int(facts["num_hidden_layers"]))
        ]
    if "layer_types" in facts and facts["layer_types"] is None:
        facts["layer_types"] = _layer_types(facts, row)
    if row.theta:
        facts["rope_parameters"] = _rotation(facts, row)
        facts = {key: value for key, value in facts.items() if key not in (*row.theta_names, *_OLD_ROTATION)}
    return facts


def _labels(facts: Mapping[str, Any]) -> dict[int, Any]:
    stated = facts.get("id2label")
    if stated is not None:
        if not isinstance(stated, Mapping) or not all(str(key).isdigit() for key in stated):
            raise ExportError(
                f"id2label in config.json is {stated!r}; expected an object with the keys 0, 1 and so on. "
                "Correct the file."
            )
        return {int(key): value for key, value in stated.items()}
    count = facts.get("num_labels")
    return {index: f"LABEL_{index}" for index in range(_NUM_LABELS if count is None else int(count))}


def _layer_types(facts: Mapping[str, Any], row: Defaults) -> list[str]:
    layers = range(int(facts["num_hidden_layers"]))
    if "no_rope_layers" in facts:
        windowed = facts["sliding_window"] is not None
        return [SLIDING if windowed and not facts["no_rope_layers"][index] else FULL for index in layers]
    if row.full_every:
        return [SLIDING if (index + 1) % row.full_every else FULL for index in layers]
    if "max_window_layers" in facts:
        first = len(layers) if facts["sliding_window"] is None else int(facts["max_window_layers"])
        return [SLIDING if index >= first else FULL for index in layers]
    if "sliding_window_pattern" in facts:
        every = int(facts["sliding_window_pattern"])
        return [SLIDING if (index + 1) % every else FULL for index in layers]
    if "global_attn_every_n_layers" in facts:
        every = int(facts["global_attn_every_n_layers"])
        return [SLIDING if index % every else FULL for index in layers]
    return [FULL if facts["sliding_window"] is None else SLIDING for _ in layers]


def _rotation(facts: Mapping[str, Any], row: Defaults) -> dict[str, dict[str, Any]]:
    """rope_parameters of each kind of layer, from either generation's words."""
    default = {key: facts[key] if value is None else value for key, value in row.rotation.items()}
    stated = facts.get("rope_parameters") or default
    scaling = facts.get("rope_scaling")
    has_two = row.has_two_rotations
    made = {}
    for kind in (FULL, SLIDING):
        rope = dict((stated.get(kind) or {}) if has_two else stated)
        if scaling and kind in row.scaled:
            # such a class has a rope_type before it reads the scaling, and so passes over a "type" in that
            rope = {"rope_type": "default"} | rope | scaling if has_two else dict(scaling)
        name = next((name for name, of in row.theta_names.items() if of == kind), "rope_theta")
        rope.setdefault("rope_theta", facts[name] if name in facts else row.theta[kind])
        if facts.get("partial_rotary_factor") is not None:
            rope.setdefault("partial_rotary_factor", facts["partial_rotary_factor"])
        rope.setdefault("rope_type", rope.get("type", "default"))
        made[kind] = rope
    return made
