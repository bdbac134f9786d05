"""config.json without transformers: by embedge's own table of defaults, every key accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedge.errors import ExportError, MissingExtraError
from embedge_export.families.completion import Defaults, complete, keys_of
from embedge_export.families.defaults import COMMON, DEFAULTS
from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.families.table import family_of
from embedge_export.source.config_keys import (
    is_harmless,
    refuse_unknown,
    refuse_values,
    says_nothing,
)
from embedge_export.source.generations import refuse_read_otherwise
from embedge_export.source.libraries import how_to_install
from embedge_export.spec import ExportSpec


def read_own_config(stated: Mapping[str, Any], spec: ExportSpec, *, has_code: bool) -> dict[str, Any]:
    """Read a configuration as transformers would.

    Args:
        stated: config.json, with what the checkpoint's settings put in place of it.
        spec: keys that the caller answers for.
        has_code: the checkpoint brings Python code of its own.

    Returns:
        See families.completion.complete.

    Raises:
        ExportError: a key or value is not known, or the architecture is not.
        MissingExtraError: only transformers can read it.
    """
    model_type = str(stated.get("model_type"))
    if has_code:
        raise MissingExtraError(
            f"the checkpoint brings its own Python code for {model_type!r}, which torch and transformers run; "
            f"expected an architecture that embedge builds without them. {how_to_install()}"
        )
    family_of(model_type)
    row = DEFAULTS.get(model_type)
    if row is None:
        raise MissingExtraError(
            f"model_type {model_type!r} is exported with torch and transformers alone; without them expected one of "
            f"{', '.join(DEFAULTS)}. {how_to_install()}"
        )
    refuse_read_otherwise({key: value for key, value in stated.items() if key not in spec.ignore_keys}, 5)
    _account_for(stated, row, spec, model_type)
    for key, value in stated.items():
        _check_type(key, value, 0 if key == "num_labels" else row.values.get(row.names.get(key, key)))
    if row.theta:
        for key in ("rope_parameters", "rope_scaling"):
            if not isinstance(stated.get(key), Mapping | None):
                raise ExportError(
                    f"{key} in config.json is {stated[key]!r}; expected an object. Correct the file."
                )
        _check_rotation(stated.get("rope_parameters"), row)
    try:
        facts = complete(stated, row)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ExportError(
            f"config.json cannot be read: {error}; expected the values of a {model_type} model. Correct the file."
        ) from error
    padding, size = facts.get("pad_token_id"), facts["vocab_size"]
    if isinstance(padding, int) and isinstance(size, int) and padding >= size:
        raise ExportError(
            f"pad_token_id in config.json is {padding}; expected less than vocab_size {size}. Correct the file."
        )
    return facts


def _account_for(stated: Mapping[str, Any], row: Defaults, spec: ExportSpec, model_type: str) -> None:
    known, only = keys_of(row), COMMON | dict(row.only)
    unknown = []
    for key, value in stated.items():
        if key == "is_causal" and value is None:
            raise ExportError(
                "config.json states is_causal null, which transformers takes for false where a text is padded alone; "
                "expected true or false. Remove the key, or correct the file."
            )
        if key in spec.ignore_keys or says_nothing(value):
            continue
        refuse_values(key, value, model_type)
        name = row.names.get(key, key)
        if name != key and name in stated and stated[name] != value:
            raise ExportError(
                f"config.json states {key} {value!r} and {name} {stated[name]!r}, which mean the same; "
                "expected equal values. Restore it from the model's origin."
            )
        if key == "is_causal" and isinstance(value, bool) and family_of(model_type).pooling == "LAST":
            continue  # which decoders' readers ask for
        if (
            key in known
            or key in row.idle
            or value in only.get(key, ())
            or is_harmless(key, stated, model_type)
        ):
            continue
        unknown.append(key)
    if unknown:
        raise refuse_unknown(unknown, stated, "embedge", how_to_install())


def _check_rotation(stated: Any, row: Defaults) -> None:
    """One form of rope_parameters is read by each class of transformers, and the other passed over."""
    if not stated:
        return
    nested = [kind for kind in (FULL, SLIDING) if kind in stated]
    flat = [key for key in stated if key not in (FULL, SLIDING)]
    if row.has_two_rotations and flat:
        raise ExportError(
            f"rope_parameters in config.json states {flat[0]!r} for all layers, which {row.classes}Config does not "
            f"read; expected {FULL} and {SLIDING}, each with its own. Restore the file from the model's origin."
        )
    if nested and not row.has_two_rotations:
        raise ExportError(
            f"rope_parameters in config.json states {nested[0]!r}, and {row.classes}Config reads one rotation for all "
            "layers; expected rope_theta and rope_type. Restore the file from the model's origin."
        )
    if any("truncate" in (stated[kind] or {}) for kind in nested):
        raise ExportError(
            "rope_parameters in config.json states truncate for a kind of layers, which transformers does not read "
            f"there; expected none. {how_to_install()}"
        )


_MAY_BE_NULL = (
    "attn_logit_softcapping", "final_logit_softcapping", "norm_rel_ebd", "num_key_value_heads", "pad_token_id",
    "position_buckets", "position_embedding_type", "share_att_key", "sliding_window", "use_bidirectional_attention",
)  # fmt: skip
"""Keys with a default that transformers takes null for, too: all others it refuses, or fails with while it computes."""


def _check_type(key: str, value: Any, default: Any) -> None:
    """Numbers must be numbers: int() would read more than a model does."""
    expected = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        dict: "an object with the keys 0, 1 and so on",
    }
    kind = dict if key == "id2label" else type(default)
    if kind not in expected:
        return
    if value is None and (kind is dict or key in _MAY_BE_NULL):
        return
    if type(value) is kind or (kind is float and type(value) is int):
        if not isinstance(value, int | float) or value >= 0 or value == default:
            return
        expected[kind] += " that is not negative"
    raise ExportError(
        f"{key} in config.json is {value!r}; expected {expected[kind]}. Restore the file from the model's origin."
    )
