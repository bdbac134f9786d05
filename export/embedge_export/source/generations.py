"""Generations of the libraries that save checkpoints.

One newer than any known here is refused by its version; what one of them reads otherwise than the one that saved it, by
name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from embedge.errors import ExportError
from embedge_export.families.spelling import FULL, SLIDING

KNOWN = {"sentence_transformers": 6, "transformers": 5}
"""The newest major version of each library whose files were read for this exporter."""


def check_generation(library: str, version: object, file: str, key: str) -> None:
    """Refuse what was saved by a library of a later major version.

    Args:
        library: its name as Python knows it.
        version: as the file states it; anything that begins with no number passes.
        file: where it stands.
        key: under which key.

    Raises:
        ExportError: it is later.
    """
    major = re.match(r"\d+", str(version))
    if major is not None and int(major[0]) > KNOWN[library]:
        raise ExportError(
            f"{file} was saved by {library} {version} ({key}), and embedge knows its files up to version "
            f"{KNOWN[library]}; expected one of these, for newer files may say what is not understood here. Install a "
            f"newer embedge, or pass --ignore-key {key} where you know that nothing changed."
        )


def refuse_read_otherwise(stated: Mapping[str, Any], generation: int) -> None:
    """Refuse a config.json that means something else to the transformers that reads it than to the one that saved it.

    Args:
        stated: config.json, without the keys that the caller answers for.
        generation: of transformers, or what is read as it would: 4 or 5.

    Raises:
        ExportError: it states such a thing.
    """
    model_type = str(stated.get("model_type"))
    for of, reading, told in _READ_OTHERWISE:
        if of == model_type and reading == generation and (words := told(stated)):
            saved = stated.get("transformers_version")
            by = f" was saved by transformers {saved} and" if saved else ""
            raise ExportError(f"config.json{by} states {words}.")


def _version(stated: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(stated.get("transformers_version") or ""))[:2])


def _gelu(stated: Mapping[str, Any]) -> str:
    if stated.get("hidden_act") != "gelu" or not (4, 48) <= _version(stated) < (5, 0):
        return ""
    return (
        "hidden_act 'gelu', which computes gelu there, and which transformers 5 takes for gelu_pytorch_tanh; expected "
        "one or the other by name. State gelu_python in config.json for the first, gelu_pytorch_tanh for the second"
    )


def _theta_of_some_layers(stated: Mapping[str, Any]) -> str:
    theta = stated.get("rope_theta")
    if theta in (None, 500_000) or stated.get("rope_parameters"):
        return ""
    return (
        f"rope_theta {theta!r}, which transformers 5 reads for layers without a window alone, otherwise than "
        f"transformers 4; expected rope_parameters. State there {FULL} and {SLIDING}, each with its rope_theta"
    )


def _window(stated: Mapping[str, Any]) -> str:
    window, local = stated.get("sliding_window"), stated.get("local_attention", 128)
    if not isinstance(window, int) or not isinstance(local, int) or window == local // 2:
        return ""
    return (
        f"sliding_window {window}, which transformers 4 saves and reads otherwise than transformers 5: it takes half "
        f"of local_attention, {local // 2}; expected both to agree. State local_attention {2 * window} for what was "
        "trained"
    )


def _local_theta(stated: Mapping[str, Any]) -> str:
    theta, local = stated.get("global_rope_theta"), stated.get("local_rope_theta")
    if None in (theta, local) or theta == local or stated.get("rope_parameters"):
        return ""
    return (
        f"local_rope_theta {local!r} and global_rope_theta {theta!r}, of which transformers 4 takes the second for all "
        "layers, otherwise than transformers 5; expected equal ones. State the same in both for what transformers 4 "
        "computes"
    )


def _two_rotations(stated: Mapping[str, Any]) -> str:
    ropes = stated.get("rope_parameters") or {}
    if not isinstance(ropes, Mapping) or ropes.get(FULL) == ropes.get(SLIDING):
        return ""
    return (
        f"other rope_parameters for {SLIDING} than for {FULL}, which transformers 4 reads otherwise than transformers "
        "5: it takes one for all layers; expected equal ones. Export with transformers 5, or without it "
        "(--reference numpy)"
    )


_READ_OTHERWISE: tuple[tuple[str, int, Callable[[Mapping[str, Any]], str]], ...] = (
    ("gemma", 5, _gelu),
    ("modernbert-decoder", 4, _two_rotations),
    ("modernbert-decoder", 5, _local_theta),
    ("modernbert-decoder", 5, _window),
    ("olmo3", 5, _theta_of_some_layers),
)
"""By model_type and the generation that reads it: words for what it finds, "" where it finds nothing."""
