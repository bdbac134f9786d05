"""A loaded tokenizer held against its tokenizer.json: classes of transformers build some pipelines anew."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from embedge_export.source.light_tokenizer import LightTokenizer
from embedge_export.source.repository import read_json
from embedge_export.texts.tokenizer_traps import TRAPS

_LOG = logging.getLogger("embedge_export")
_STATING = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Files besides tokenizer.json that may state tokens."""
_OF_TRAINING = ("dropout", "merges", "type", "vocab")
_WORD_LIMIT = 60
_TOKEN_LIMIT = 6


def describe_differences(tokenizer: Any, stated: Any, folder: Path) -> tuple[str, ...]:
    """Say, loudly, how a loaded tokenizer differs from what tokenizer.json states, where that could change token ids.

    The library's answer is what counts: a class that builds its pipeline anew passes over the file's.

    Args:
        tokenizer: as it was loaded.
        stated: tokenizers' own, of the file.
        folder: of the tokenizer's files.

    Returns:
        One text in words, or none.
    """
    if (differences := _differences(tokenizer, tokenizer.backend_tokenizer, stated, folder)) is None:
        return ()
    return _aloud(
        f"the tokenizer as {name_of(tokenizer)} of transformers {_generation(tokenizer)} builds it, "
        f"which is not as tokenizer.json states it: {differences}. For the file's own set "
        '"tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json'
    )


def describe_change(tokenizer: Any, newer: LightTokenizer, folder: Path) -> tuple[str, ...]:
    """Say how a tokenizer that transformers 4 loaded differs from what 5 makes of the same files.

    Args:
        tokenizer: as transformers 4 loaded it.
        newer: as transformers 5 does.
        folder: of the tokenizer's files.

    Returns:
        One text in words, or none.
    """
    differences = _differences(newer, tokenizer.backend_tokenizer, newer.backend_tokenizer, folder)
    if differences is None:
        return ()
    return _aloud(
        f"the tokenizer as transformers 4 loads it, which is not as {newer.class_name} of transformers 5 builds it: "
        f"{differences}. For the numbers of transformers 5 export with it"
    )


def describe_dropout(share: float) -> tuple[str, ...]:
    """Say that merges are never left out, where transformers leaves them out at random in every call."""
    return _aloud(
        f"every merge of the tokenizer: tokenizer.json states dropout {share:g}, which is for training, and "
        "transformers leaves merges out at random in every call; the witness is asked without"
    )


def _aloud(words: str) -> tuple[str, ...]:
    _LOG.warning("WARNING: assumed %s", words)
    return (words,)


def _differences(tokenizer: Any, backend: Any, other: Any, folder: Path) -> str | None:
    """What differs between two backends of one tokenizer's files, the first one's side first."""
    for each in (backend, other):
        each.encode_special_tokens = bool(getattr(tokenizer, "split_special_tokens", False))
        each.no_truncation()  # of an earlier call
    _add_stated_tokens(backend, other, folder)
    parts = [*_different_parts(backend, other, segments="token_type_ids" in tokenizer.model_input_names)]
    shown = _first_difference(backend, other)
    if shown is None and not parts:
        return None
    return "; ".join([*parts, shown or f"none of {len(TRAPS)} texts that were asked shows it"])


def name_of(tokenizer: Any) -> str:
    """What transformers calls a tokenizer's class, whichever loaded it."""
    return tokenizer.class_name if isinstance(tokenizer, LightTokenizer) else type(tokenizer).__name__


def _generation(tokenizer: Any) -> str:
    light = isinstance(tokenizer, LightTokenizer)
    return "5" if light else metadata.version("transformers").partition(".")[0]


def _add_stated_tokens(backend: Any, stated: Any, folder: Path) -> None:
    """Add the loaded tokenizer's tokens that another file states: they are no difference, wherever they stand."""
    known = {token.content for token in stated.get_added_tokens_decoder().values()}
    elsewhere = {text for name in _STATING for text in _texts(read_json(folder, name))}
    for _, token in sorted(backend.get_added_tokens_decoder().items()):
        if token.content in elsewhere and token.content not in known:
            add = stated.add_special_tokens if token.special else stated.add_tokens
            add([token])


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, each in value.items():
                yield name
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)


def _different_parts(backend: Any, stated: Any, *, segments: bool) -> Iterator[str]:
    loaded, file = json.loads(backend.to_str()), json.loads(stated.to_str())
    for name in ("normalizer", "pre_tokenizer"):
        ours, theirs = (_stages(state[name]) for state in (loaded, file))
        if ours != theirs:
            yield f"{name.replace('_', '-')} {_in_words(ours)} for {_in_words(theirs)}"
    if loaded["model"]["type"] != file["model"]["type"]:
        yield f"model {loaded['model']['type']} for {file['model']['type']}"
        return
    options, others = (_model_options(state["model"]) for state in (loaded, file))
    for name in sorted({*options, *others}):
        if options.get(name) != others.get(name):
            yield f"the model's {name} {options.get(name)!r} for {others.get(name)!r}"
    for name in ("vocab", "merges"):
        if loaded["model"].get(name) != file["model"].get(name):
            yield f"other {name}"
    for sides in (("a",), ("a", "a")):
        around, other = (_surrounded(each, sides, segments=segments) for each in (backend, stated))
        if around != other:
            yield f"around {'a text' if len(sides) == 1 else 'a pair'} {' '.join(around)} for {' '.join(other)}"


def _stages(state: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer as the list of what it does, without what is about offsets."""
    if state is None:
        return []
    if state["type"] != "Sequence":
        return [{name: value for name, value in state.items() if name != "trim_offsets"}]
    return [
        stage for part in state.get("normalizers", state.get("pretokenizers", [])) for stage in _stages(part)
    ]


def _in_words(stages: list[dict[str, Any]]) -> str:
    words = []
    for stage in stages:
        options = ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False)}"
            for name, value in stage.items()
            if name not in ("type", "precompiled_charsmap") and value is not None
        )
        words.append(f"{stage['type']}({_short(options)})" if options else str(stage["type"]))
    return " + ".join(words) or "none"


def _model_options(model: dict[str, Any]) -> dict[str, Any]:
    options = {
        name: value or None for name, value in model.items() if name not in _OF_TRAINING and name != "unk_id"
    }
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        options["unk_id"] = model["unk_id"]
    if options.get("unk_token") is None:
        options.pop("fuse_unk", None)  # there is nothing to fuse
    return options


def _surrounded(tokenizer: Any, sides: tuple[str, ...], *, segments: bool) -> list[str]:
    """Special tokens around the sides, which are A and B; with segment ids where the model is given them."""
    encoding = tokenizer.encode(*sides)
    words: list[str] = []
    for token, side, segment in zip(encoding.tokens, encoding.sequence_ids, encoding.type_ids, strict=True):
        word = (token if side is None else "AB"[side]) + (f":{segment}" if segments else "")
        if side is None or word not in words[-1:]:
            words.append(word)
    return words


def _first_difference(backend: Any, stated: Any) -> str | None:
    contents = sorted(
        {token.content for each in (backend, stated) for token in each.get_added_tokens_decoder().values()}
    )
    asked = [*TRAPS, *(form for token in contents for form in (f"a {token} b", f"a{token}b", token.lower()))]
    pairs = zip(backend.encode_batch(asked), stated.encode_batch(asked), strict=True)
    for text, (ours, theirs) in zip(asked, pairs, strict=True):
        if ours.ids != theirs.ids:
            return f"{_short(text)!r} becomes {_tokens(ours, theirs)} for {_tokens(theirs, ours)}"
    return None


def _short(text: str) -> str:
    return text if len(text) <= _WORD_LIMIT else text[: _WORD_LIMIT - 3] + "..."


def _tokens(encoding: Any, other: Any) -> str:
    """The tokens from the first that is another."""
    pairs = zip(encoding.ids, other.ids, strict=False)
    same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    shown = encoding.tokens[same : same + _TOKEN_LIMIT]
    before, after = "... " * (same > 0), " ..." * (len(encoding.tokens) > same + _TOKEN_LIMIT)
    return before + " ".join(shown) + after
