"""A column of a batch, as engines hand it over, has the numbers that the verbs give for its texts."""

from __future__ import annotations

import numpy as np
import pyarrow
import pytest

from embedge import EdgeModel, ParamsError, PoolingParams, PromptError
from embedge.integrations._columns import ColumnCall, compute, load_within
from embedge.testing import tiny_bundle

TEXTS = ["the food", "a river and a city", "light " * 200]
OTHERS = ["good", "the water", "old new"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    kinds = {"embed": (), "classify": ("classify",), "score": ("cross_encoder",)}
    opened = {
        name: load_within(str(tiny_bundle(folder / name, *kind)), None, device="cpu", threads=1)
        for name, kind in kinds.items()
    }
    yield opened
    for model in opened.values():
        model.close()


@pytest.mark.parametrize(
    "make", [lambda columns: {k: np.array(v) for k, v in columns.items()}, pyarrow.table]
)
def test_numbers_are_those_of_the_verbs(models, make) -> None:
    batch = make({"text": TEXTS, "other": OTHERS, "n": [1, 2, 3]})
    embedder: EdgeModel = models["embed"]
    call = ColumnCall(pooling_params=PoolingParams(normalize=False), prompt="the ")
    expected = embedder.embed(
        TEXTS, pooling_params=PoolingParams(normalize=False), prompt="the ", truncate_prompt_tokens=-1
    )
    np.testing.assert_array_equal(compute(embedder, batch, call), expected.numpy())
    np.testing.assert_array_equal(
        compute(embedder, batch, ColumnCall(long_text="mean")),
        embedder.embed(TEXTS, long_text="mean").numpy(),
    )
    np.testing.assert_array_equal(
        compute(models["classify"], batch, ColumnCall(task="classify")),
        models["classify"].classify(TEXTS, truncate_prompt_tokens=-1).numpy(),
    )
    np.testing.assert_array_equal(
        compute(models["score"], batch, ColumnCall(task="score", pair_column="other")),
        models["score"].score(TEXTS, OTHERS, truncate_prompt_tokens=-1).numpy(),
    )


def test_an_empty_batch_has_the_shape_of_others(models) -> None:
    batch, none = {"text": np.array(TEXTS), "other": np.array(OTHERS)}, {"text": np.array([], dtype=str)}
    for name, call in {
        "embed": ColumnCall(),
        "classify": ColumnCall(task="classify"),
        "score": ColumnCall(task="score", pair_column="other"),
    }.items():
        some, empty = compute(models[name], batch, call), compute(models[name], none, call)
        assert (empty.shape, empty.dtype) == ((0, *some.shape[1:]), some.dtype)


def test_what_is_no_text_is_named(models) -> None:
    with pytest.raises(
        PromptError, match="row 1 of the batch has None in column 'text'; expected a text"
    ) as at:
        compute(models["embed"], pyarrow.table({"text": ["a", None]}), ColumnCall())
    assert at.value.index == 1
    with pytest.raises(PromptError, match="limit is"):
        compute(models["embed"], {"text": np.array(TEXTS)}, ColumnCall(long_text="error"))
    with pytest.raises(ParamsError, match="column 'words' is not in the batch; expected one of text, n"):
        compute(models["embed"], {"text": np.array(TEXTS), "n": np.zeros(3)}, ColumnCall(column="words"))


def test_calls_that_cannot_be_are_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(
        ParamsError, match="task='token_embed' is not known; expected embed, classify or score"
    ):
        ColumnCall(task="token_embed")
    for wrong in ({"task": "score"}, {"pair_column": "other"}):
        with pytest.raises(ParamsError, match="expected pairs for score, and only there"):
            ColumnCall(**wrong)
    with pytest.raises(ParamsError, match="long_text='mean' is for task 'embed'"):
        ColumnCall(task="classify", long_text="mean")
