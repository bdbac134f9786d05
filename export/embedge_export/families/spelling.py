"""One spelling for what the generations of configuration files write in different words.

transformers 5 writes `rope_parameters`, also one for each kind of layer, and `layer_types`; 4 wrote rope_theta,
rope_scaling, rope_local_base_freq, global_rope_theta, local_rope_theta and global_attn_every_n_layers. Readers of
families ask for the new words alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedge_export.families.parts import Config

FULL, SLIDING = "full_attention", "sliding_attention"
LAYER_COUNTS = ("num_hidden_layers", "n_layers", "n_layer")
"""What families call their number of layers."""

_LENGTH = "original_max_position_embeddings"
_WITH_LENGTH = ("llama3", "longrope", "yarn")


def in_new_words(config: Config) -> dict[str, Any]:
    """A configuration of either generation in the words that readers of families ask for.

    Args:
        config: config.to_dict() of transformers 4 or 5, with its defaults filled in.

    Returns:
        The same, where `rope_parameters` holds FULL and SLIDING, each with rope_theta and rope_type, `layer_types`
        one of the two for each layer, and `is_causal` a truth value; where nothing rotates, no rope_theta.
    """
    return dict(config) | {
        "rope_parameters": _rope_parameters(config),
        "layer_types": _layer_types(config),
        "is_causal": config.get("is_causal") is not False,
    }


def steady_length(config: Config) -> int | None:
    """The longest text whose rotation does not depend on the longest of its batch; None where none does.

    Args:
        config: of either generation.
    """
    lengths = []
    for stated in _rope_parameters(config).values():
        if stated["rope_type"] == "dynamic":
            lengths.append(config.get("max_position_embeddings"))
        elif stated["rope_type"] == "longrope":
            lengths.append(stated.get(_LENGTH))
    return min((int(length) for length in lengths if length is not None), default=None)


def _layer_types(config: Config) -> list[str]:
    stated = config.get("layer_types")
    if stated is not None:
        return [str(kind) for kind in stated]
    count = next((int(config[key]) for key in LAYER_COUNTS if config.get(key) is not None), 0)
    every = config.get("global_attn_every_n_layers")
    if every is None:
        return [FULL] * count
    return [SLIDING if index % int(every) else FULL for index in range(count)]


def _rope_parameters(config: Config) -> dict[str, dict[str, Any]]:
    stated: Mapping[str, Any] = config.get("rope_parameters") or _from_old_words(config)
    nested: dict[str, Mapping[str, Any]] = {
        kind: stated[kind] for kind in (FULL, SLIDING) if isinstance(stated.get(kind), Mapping)
    }
    return {
        kind: _completed(nested.get(kind) or ({} if nested else stated), config) for kind in (FULL, SLIDING)
    }


def _from_old_words(config: Config) -> dict[str, Any]:
    scaling = dict(config.get("rope_scaling") or {})
    theta, local = config.get("rope_theta", config.get("global_rope_theta")), config.get("local_rope_theta")
    full = scaling | {"rope_theta": theta}
    # ModernBERT scales both kinds of layers, Gemma3 those without a window
    sliding = full if local is None else scaling | {"rope_theta": local}
    if config.get("rope_local_base_freq") is not None:
        sliding = {"rope_theta": config["rope_local_base_freq"]}
    return {FULL: full, SLIDING: sliding}


def _completed(stated: Mapping[str, Any], config: Config) -> dict[str, Any]:
    kind = stated.get("rope_type", stated.get("type", "default"))
    completed = {key: value for key, value in stated.items() if key != "type"} | {"rope_type": kind}
    if config.get("partial_rotary_factor") is not None:
        completed.setdefault("partial_rotary_factor", config["partial_rotary_factor"])
    if kind in _WITH_LENGTH:
        outside = config.get(_LENGTH)  # where Phi3 states it, and transformers prefers it
        completed[_LENGTH] = outside or completed.get(_LENGTH) or config.get("max_position_embeddings")
    if kind == "longrope" and completed.get("factor") is None:
        completed["factor"] = int(config["max_position_embeddings"]) / int(completed[_LENGTH])
    return completed
