"""Keys of tokenizer_config.json at values that they should not have: refused, or the library's token ids."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.altered.trial import Outcome, Reference
from tests.altered.values import VALUES, Alteration
from tests.export.source.test_tokenizer_loading import loaded, of_bundle, saved

from embedge._text.pairs import encode_pairs
from embedge.errors import EmbedgeError
from embedge_export.source.tokenizer_config import _BY_TRANSFORMERS, _IGNORED, TOKENIZER_CONFIG
from embedge_export.source.torch_model import quiet

MADE = ("bert", "roberta", "xlm-roberta", "qwen", "gemma")
"""One of each make of tokenizers."""
TEXTS = (
    "a fox",
    "The Quick  brown fox, isn't it?",
    "naïve ÅÄ 🙂 [SEP] </s>",
    " ".join(["the quick brown fox"] * 20),
)
_NOT_OF_A_TOKENIZER = ("auto_map",)


def keys(folder: Path) -> list[str]:
    """What the saved file states, what transformers reads of it, and what is passed over."""
    stated = json.loads((folder / TOKENIZER_CONFIG).read_text("utf-8"))
    return sorted({*stated, *_BY_TRANSFORMERS, *_IGNORED} - {*_NOT_OF_A_TOKENIZER})


def alterations(family: str, folder: Path) -> Iterator[Alteration]:
    """All of a family's tokenizer."""
    for key in keys(folder):
        for value in VALUES:
            yield Alteration(family, key, value)


def sample(family: str, folder: Path, count: int) -> list[Alteration]:
    """Some of a family's, the same each time."""
    return random.Random(family).sample(list(alterations(family, folder)), count)


def attempt(alteration: Alteration, folder: Path, reference: Reference) -> Outcome:
    """Alter a tokenizer_config.json, read the tokenizer, and put the file back.

    Args:
        alteration: what.
        folder: of the tokenizer, as `saved` makes it.
        reference: "torch" loads it with transformers, "numpy" without.
    """
    path = folder / TOKENIZER_CONFIG
    content = path.read_bytes()
    path.write_text(json.dumps(alteration.apply(json.loads(content))))
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            return _attempt(alteration, folder, light=reference == "numpy")
    finally:
        path.write_bytes(content)


def make(family: str, folder: Path) -> Path:
    return saved(family, folder)


def _attempt(alteration: Alteration, folder: Path, *, light: bool) -> Outcome:
    try:
        ours = _ids(loaded(folder, light=light))
    except EmbedgeError as error:
        return Outcome(alteration, "refused", str(error))
    except Exception as error:
        return Outcome(alteration, "failed", f"{type(error).__name__}: {error}")
    try:
        theirs = _ids_of_library(folder)
    except Exception as error:
        verdict = "passed over" if alteration.key in _IGNORED else "laxer"
        return Outcome(alteration, verdict, f"{type(error).__name__}: {error}")
    if ours != theirs:
        return Outcome(alteration, "differs", f"{ours} for {theirs}")
    return Outcome(alteration, "equal")


def _ids(tokenization: Any) -> list[Any]:
    tokenizer = of_bundle(tokenization)
    texts = tokenizer.encode(list(TEXTS), [-1] * len(TEXTS))
    pairs = encode_pairs(tokenizer, list(TEXTS), list(TEXTS[::-1]), [-1] * len(TEXTS))
    return [
        [each.token_ids for each in texts],
        [(each.token_ids, each.type_ids or [0] * len(each.token_ids)) for each in pairs],
    ]


def _ids_of_library(folder: Path) -> list[Any]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    texts = [tokenizer(text, truncation=True) for text in TEXTS]
    pairs = [tokenizer(*sides, truncation=True) for sides in zip(TEXTS, TEXTS[::-1], strict=True)]
    return [
        [each["input_ids"] for each in texts],
        [(each["input_ids"], each.get("token_type_ids", [0] * len(each["input_ids"]))) for each in pairs],
    ]
