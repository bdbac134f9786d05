"""A configuration that transformers 5 saved, in the words of 4 where that is the one installed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from embedge_export.families.spelling import FULL, SLIDING

_NOT_SCALING = ("rope_theta", "partial_rotary_factor")


class OldWords(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration says that the installed transformers does not read, in words that it does.

    Attributes:
        words: key and value, to be set on the configuration.
        translated: the keys of config.json that they stand for.
    """

    words: dict[str, Any] = msgspec.field(default_factory=dict)
    translated: tuple[str, ...] = ()


def in_old_words(stated: Mapping[str, Any], known: Collection[str]) -> OldWords:
    """Translate what can be said with the same meaning; what cannot stays unknown.

    Args:
        stated: config.json as it stands.
        known: keys that the installed transformers reads.
    """
    parts = {"rope_parameters": _rotation, "layer_types": _period}
    found = {
        key: words
        for key, translate in parts.items()
        if key in stated and key not in known and (words := translate(stated, known)) is not None
    }
    words = {word: value for part in found.values() for word, value in part.items()}
    return OldWords(words=words, translated=tuple(found))


def _rotation(stated: Mapping[str, Any], known: Collection[str]) -> dict[str, Any] | None:
    rope = stated["rope_parameters"]
    if not isinstance(rope, Mapping):
        return None
    is_nested = any(isinstance(rope.get(kind), Mapping) for kind in (FULL, SLIDING))
    full, sliding = (rope.get(FULL), rope.get(SLIDING)) if is_nested else (rope, rope)
    if not isinstance(full, Mapping) or not isinstance(sliding, Mapping):
        return None
    if not {"rope_theta"} <= set(full) & set(sliding):
        return None
    if "global_rope_theta" in known:  # ModernBERT: one scaling for both kinds
        if _scaling(full) != _scaling(sliding):
            return None
        words = {"global_rope_theta": full["rope_theta"], "local_rope_theta": sliding["rope_theta"]}
    elif "rope_local_base_freq" in known:  # Gemma3: no scaling in windows
        if _scaling(sliding) is not None:
            return None
        words = {"rope_theta": full["rope_theta"], "rope_local_base_freq": sliding["rope_theta"]}
    elif "rope_theta" in known and full == sliding:
        words = {"rope_theta": full["rope_theta"]}
    else:
        return None
    for word, value in (
        ("rope_scaling", _scaling(full)),
        ("partial_rotary_factor", full.get("partial_rotary_factor")),
    ):
        if value is None or (word == "partial_rotary_factor" and value == 1):
            continue
        if word not in known:
            return None
        words[word] = value
    return words


def _scaling(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    if rope.get("rope_type", rope.get("type", "default")) == "default":
        return None
    return {key: value for key, value in rope.items() if key not in _NOT_SCALING}


def _period(stated: Mapping[str, Any], known: Collection[str]) -> dict[str, Any] | None:
    kinds = stated["layer_types"]
    if "global_attn_every_n_layers" not in known or not isinstance(kinds, list) or not kinds:
        return None
    for every in range(1, len(kinds) + 1):
        if kinds == [SLIDING if index % every else FULL for index in range(len(kinds))]:
            return {"global_attn_every_n_layers": every}
    return None
