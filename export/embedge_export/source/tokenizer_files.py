"""The files of a tokenizer put together into options and tokens, as transformers 5 puts them together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from embedge_export.source.repository import read_json

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Special tokens with names, in the order of transformers."""
NOT_OPTIONS = ("add_bos_token", "add_eos_token", "tokenizer_class")
"""Keys of tokenizer_config.json that change nothing beside a tokenizer.json."""


class Stated(msgspec.Struct, kw_only=True, eq=False):
    """What the files state.

    Attributes:
        options: by the names of tokenizer_config.json, special tokens as tokenizers has them.
        named: further special tokens with names.
        added: tokens beside the vocabulary, by id.
        file: tokenizer.json, or what the vocabulary alone says in its words.
        path: where tokenizer.json is, or would be.
    """

    options: dict[str, Any]
    named: dict[str, Any]
    added: dict[int, Any]
    file: dict[str, Any]
    path: Path


def _templates(folder: Path) -> str | dict[str, str] | None:
    """Chat templates in files of their own, which go before the one in tokenizer_config.json."""
    found: dict[str, str] = {}
    if (folder / "chat_template.jinja").is_file():
        found["default"] = (folder / "chat_template.jinja").read_text("utf-8")
    others = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    found |= {path.name.removesuffix(".jinja"): path.read_text("utf-8") for path in others}
    return found["default"] if list(found) == ["default"] else found or None


def vocabulary_of(folder: Path) -> dict[str, Any] | None:
    """A vocabulary that lies in files of its own, in the words of tokenizer.json; None where there is none.

    Files are read by tokenizers, as transformers 5 has them read.
    """
    from tokenizers import models

    words, pairs, merges = (folder / name for name in ("vocab.txt", "vocab.json", "merges.txt"))
    if words.is_file():
        return {"model": {"type": "WordPiece", "vocab": models.WordPiece.read_file(str(words))}}
    if pairs.is_file() and merges.is_file():
        vocabulary, pairs_of_pieces = models.BPE.read_file(str(pairs), str(merges))
        return {"model": {"type": "BPE", "vocab": vocabulary, "merges": pairs_of_pieces}}
    return None


def read_stated(folder: Path, kwargs: dict[str, Any]) -> Stated:
    """Put a tokenizer's files together, in the order of transformers' _from_pretrained.

    Args:
        folder: of the files.
        kwargs: options that the checkpoint's other files state.
    """
    from tokenizers import AddedToken

    path = folder / "tokenizer.json"
    file = json.loads(path.read_bytes()) if path.is_file() else vocabulary_of(folder) or {}
    config = read_json(folder, "tokenizer_config.json")
    templates = _templates(folder)
    options = {name: value for name, value in config.items() if name not in NOT_OPTIONS}
    if templates is not None:
        options["chat_template"] = templates
    options |= kwargs
    if not options.get("extra_special_tokens") and "additional_special_tokens" in options:
        options["extra_special_tokens"] = options.pop("additional_special_tokens")
    named = {
        name: options.pop(name)
        for name in list(options)
        if name not in NAMED and name.endswith("_token") and isinstance(options[name], str)
    }
    _name_extras(options, named)
    added = {}
    if "added_tokens_decoder" in options:
        for index, token in options.pop("added_tokens_decoder").items():
            added[int(index)] = AddedToken(**_properties(token))
    else:
        _read_older(folder, options, named, added, kwargs)
        for token in file.get("added_tokens", []):
            added[token["id"]] = AddedToken(**_properties({**token, "id": None}))
    by_text = {token.content: token for token in added.values()}
    options = {name: _as_token(value) for name, value in options.items()}
    for name in NAMED:
        if by_text and options.get(name) is not None:
            options[name] = by_text.get(str(text_of(options[name])), options[name])
    return Stated(options=options, named=named, added=added, file=file, path=path)


def _read_older(
    folder: Path,
    options: dict[str, Any],
    named: dict[str, Any],
    added: dict[int, Any],
    kwargs: dict[str, Any],
) -> None:
    """special_tokens_map.json and added_tokens.json, which go unread where tokenizer_config.json has all tokens."""
    from tokenizers import AddedToken

    for key, value in read_json(folder, "special_tokens_map.json").items():
        if kwargs.get(key):
            continue
        if isinstance(value, dict) and key != "extra_special_tokens":
            value = AddedToken(**_properties({**value, "special": True}))
        elif key == "extra_special_tokens" and isinstance(value, list):
            listed = [
                AddedToken(**_properties({**each, "special": True})) if isinstance(each, dict) else each
                for each in value
            ]
            before = list(options.get("extra_special_tokens") or [])
            value = before + [each for each in listed if each not in before]
        options[key] = value
    _name_extras(options, named)
    special = {str(text_of(options[name])) for name in NAMED if options.get(name)}
    special |= {str(text_of(token)) for token in options.get("extra_special_tokens") or []}
    for token, index in read_json(folder, "added_tokens.json").items():
        is_special = token in special
        added[index] = AddedToken(
            token, rstrip=False, lstrip=False, normalized=not is_special, special=is_special
        )


def _name_extras(options: dict[str, Any], named: dict[str, Any]) -> None:
    if isinstance(options.get("extra_special_tokens"), dict):
        named.update(options.pop("extra_special_tokens"))


def _properties(token: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in token.items() if name not in ("__type", "id")}


def _as_token(value: Any) -> Any:
    from tokenizers import AddedToken

    if isinstance(value, dict) and value.get("__type") == "AddedToken":
        return AddedToken(**_properties(value))
    if isinstance(value, (list, tuple)):
        return [_as_token(each) for each in value]
    return value


def text_of(token: Any) -> str:
    """What a special token stands for, which is a text or one of tokenizers' own."""
    return str(getattr(token, "content", token))
