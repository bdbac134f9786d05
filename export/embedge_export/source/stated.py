"""config_sentence_transformers.json: a model's class and prompts, how its answers are cut and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from embedge.errors import ExportError
from embedge_export.source.fields import (
    account_for,
    optional_text,
    some_bool,
    some_object,
    some_texts,
    texts_by_name,
    whole,
)
from embedge_export.source.generations import check_generation
from embedge_export.source.repository import read_json

STATED = "config_sentence_transformers.json"
MODEL_TYPES = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder", "ColBERT")
"""Classes that sentence-transformers and PyLate write."""

_TYPES: dict[str, Callable[[Any, str, str], object]] = {
    "__version__": some_object,
    "activation_fn": optional_text,
    "attend_to_expansion_tokens": some_bool,
    "default_prompt_name": optional_text,
    "do_query_expansion": some_bool,
    "document_length": whole,
    "document_prefix": optional_text,
    "model_type": optional_text,
    "prompts": texts_by_name,
    "query_length": whole,
    "query_prefix": optional_text,
    "similarity_fn_name": optional_text,
    "skiplist_words": some_texts,
    "truncate_dim": whole,
}
"""Keys that are read, each with what checks its value."""

IGNORED = {"keep_in_fp32_modules": "the reference is float32 throughout"}
_CUTS = "max_active_dims"


def read_stated(folder: Path, *, has_modules: bool, ignore_keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read the file.

    Args:
        folder: the checkpoint.
        has_modules: modules.json is beside it; without one sentence-transformers does not read the file.
        ignore_keys: keys that are passed over as if they were not there.

    Returns:
        What it states, without keys that are null; empty where there is no file.

    Raises:
        ExportError: a key that embedge does not know, a value of another type, a newer library, or what it would do
            and the library would not.
    """
    ignore_keys = set(ignore_keys)
    stated = {
        key: value
        for key, value in read_json(folder, STATED).items()
        if value is not None and key not in ignore_keys
    }
    if "prompts" in stated:
        prompts = some_object(stated["prompts"], "prompts", STATED)
        # the library makes a prompt that is null an empty one
        stated["prompts"] = {name: "" if text is None else text for name, text in prompts.items()}
    for key, check in _TYPES.items():
        if key in stated:
            check(stated[key], key, STATED)
    for library in ("sentence_transformers", "transformers"):
        check_generation(library, stated.get("__version__", {}).get(library), STATED, "__version__")
    if _CUTS in stated:
        raise ExportError(
            f"{STATED} states {_CUTS} {stated[_CUTS]!r}, and a bundle keeps every term; expected none. Remove it in a "
            "copy of the checkpoint, and cut the terms where you use them."
        )
    account_for(stated, STATED, known=_TYPES, ignored=IGNORED)
    if stated.get("model_type", MODEL_TYPES[0]) not in MODEL_TYPES:
        raise ExportError(
            f"{STATED} states model_type {stated['model_type']!r}, which embedge does not know; expected one of "
            f"{', '.join(MODEL_TYPES)}. Pass --ignore-key model_type if its modules.json says enough."
        )
    for key in ("default_prompt_name", "truncate_dim"):
        if not has_modules and key in stated:
            raise ExportError(
                f"{STATED} states {key} {stated[key]!r}, and there is no modules.json, without which "
                "sentence-transformers does not read it; expected both files. Restore modules.json from the model's "
                f"origin, or pass --ignore-key {key}."
            )
    return stated
