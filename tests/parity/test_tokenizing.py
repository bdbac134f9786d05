"""Tokenizers that cut, split or number tokens otherwise than most: the library's numbers, asked by text."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.checkpoints.reference import answers
from tests.checkpoints.saving import read_json, write_json
from tests.parity.asked import PAIRS, TEXTS, load

ATOL = 1e-5
SPECIAL = ["a [SEP] b", "[CLS][MASK] [PAD]", "<s> </s> <mask>", "the [UNK] fox"]


@pytest.mark.parametrize(
    "name",
    [
        "cross-encoder-left",
        "cross-encoder-no-segments",
        "cross-encoder-one-type",
        "cross-encoder-roberta-types",
    ],
)
def test_scores(exported, name) -> None:
    checkpoint, bundle = exported(name)
    pairs = [*PAIRS, *zip(SPECIAL, SPECIAL[::-1], strict=True)]
    expected = np.array(answers(name, checkpoint, pairs)).ravel()
    with load(bundle) as model:
        scores = model.score(*map(list, zip(*pairs, strict=True))).numpy()
    assert_allclose(scores, expected, atol=1e-6, rtol=0)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("name", ["split-special-tokens", "bpe-dropout"])
def test_embeddings(exported, name) -> None:
    checkpoint, bundle = exported(name)
    texts = [*TEXTS[::2], *SPECIAL]
    expected = np.stack(answers(name, checkpoint, texts))
    with load(bundle) as model:
        assert_allclose(model.embed(texts).numpy(), expected, atol=ATOL, rtol=0)


def test_special_tokens_are_split_only_where_that_is_stated(exported) -> None:
    checkpoint, bundle = exported("split-special-tokens")
    with load(bundle) as model:
        split = model.embed(["a [SEP] b"]).numpy()
    path = next(checkpoint.glob("**/tokenizer_config.json"))
    stated = read_json(path)
    assert stated["split_special_tokens"] is True
    write_json(path, {**stated, "split_special_tokens": False})
    try:
        (whole,) = answers("split-special-tokens", checkpoint, ["a [SEP] b"])
    finally:
        write_json(path, stated)
    assert np.abs(split[0] - whole).max() > 1e-3
