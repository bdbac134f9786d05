"""Anything in the place of any parameter: a result, or an error of ours in a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from pathlib import Path

import numpy as np
import pytest
from tests.sdk.threads_left import threads_left

from embedge import (
    DeadlineError,
    EdgeModel,
    EmbedgeError,
    ParamsError,
    PoolerConfig,
    PoolingParams,
    PromptError,
)
from embedge._engine.options import LoadOptions


class Series:
    """A sequence by label, as those of data frames are."""

    def __init__(self, values, labels) -> None:
        self._values, self._labels = values, labels

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self):
        return iter(self._values)

    def __getitem__(self, label):
        return self._values[self._labels.index(label)]


class Broken:
    __hash__ = None

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __iter__(self):
        raise RuntimeError("iter")

    def __eq__(self, other) -> bool:
        raise RuntimeError("eq")

    def __repr__(self) -> str:
        return "Broken"


def values() -> list:
    return [
        *(None, True, 0, 1, -1, 2**70, 1.5, float("nan"), "x", "", b"x", "\ud800"),
        *([], ["a"], [1], [None], (), {}, {"a": 1}, set(), [["a"]], [["a", 1]], [2**70], range(3)),
        *(np.array(["a", "b"]), np.array([1, 2]), np.array(1), np.array([]), np.array([[1, 2], [3, 4]])),
        *(np.float32(1), np.int64(3), np.str_("embed"), np.bool_(True), np.array([2**63], dtype=np.uint64)),
        *([np.array(1)], [np.array([1, 2])], [[int]], [[np.array([1])]], {"prompt_token_ids": np.array(5)}),
        *(iter(["a"]), (text for text in ["a"]), object(), Broken(), int, lambda: 1, Path("x")),
        *(PoolingParams(), [PoolingParams()], Series(["a", "b"], [1, 0])),
    ]


@pytest.mark.parametrize("kind", ["embed", "classify", "sparse", "cross_encoder"])
@pytest.mark.parametrize("verb", ["encode", "embed", "embed_sparse", "classify", "score", "rerank", "stream"])
def test_every_wrong_parameter_ends_in_a_sentence(kind, verb, load) -> None:
    call = getattr(load(kind), verb)
    # what a callable of the caller's raises is the caller's
    names = [name for name in inspect.signature(call).parameters if name not in ("use_tqdm", "progress")]
    usual = (
        dict(zip(names, ("a", ["b", "c"]), strict=False))
        if verb in ("score", "rerank")
        else {"prompts": "a b"}
    )
    for name in names:
        for value in values():
            with contextlib.suppress(EmbedgeError):
                list(call(**usual | {name: value}))
    assert not threads_left()


def test_documents_go_by_position_whatever_they_are_kept_in(load) -> None:
    model = load()
    texts = ["the river", "good", "the river and the city"]
    expected = model.rerank("the river", texts)
    for given in (Series(texts, [2, 0, 1]), iter(texts), (t for t in texts), np.array(texts), tuple(texts)):
        assert model.rerank("the river", given) == expected
    shuffled = Series(texts, [2, 0, 1])
    assert np.array_equal(model.score("the river", shuffled).numpy(), model.score("the river", texts).numpy())
    for wrong in (None, 3, Broken()):
        with pytest.raises(PromptError, match="documents is .*; expected a list of texts"):
            model.rerank("the river", wrong)
    with pytest.raises(PromptError, match="prompts is a NoneType; expected an iterable"):
        model.stream(None)


def test_generators_are_gone_through_in_every_verb(load) -> None:
    texts = ["the river", "good", "the river and the city"]
    model = load()
    expected = model.embed(texts).numpy()
    assert np.array_equal(model.embed(t for t in texts).numpy(), expected)
    assert np.array_equal(model.encode(iter(texts)).numpy(), expected)
    assert np.array_equal(asyncio.run(model.aembed(t for t in texts)).numpy(), expected)
    pairs = model.score((t for t in texts), (t for t in texts)).numpy()
    assert np.array_equal(pairs, model.score(texts, texts).numpy())
    classifier = load("classify")
    assert np.array_equal(classifier.classify(iter(texts)).numpy(), classifier.classify(texts).numpy())
    with pytest.raises(PromptError, match="prompt 1 is int 3"):
        model.embed(t for t in ("a", 3))


def test_an_error_of_a_generator_is_its_owners(load) -> None:
    def broken():
        yield "the river"
        raise OSError("the disk is gone")

    model = load()
    for call in (model.embed, model.encode, lambda texts: model.rerank("a", texts)):
        with pytest.raises(OSError, match="the disk is gone"):
            call(broken())


def test_a_generator_without_an_end_ends_with_the_call(load) -> None:
    with pytest.raises(DeadlineError):
        load().embed(itertools.repeat("a"), deadline_s=0.05)


def frames() -> list:
    """Tables of whatever is installed; the texts of each are those of its column."""
    made = []
    with contextlib.suppress(ImportError):
        import pandas as pd

        made.append(pd.DataFrame({"text": ["a", "b"], "id": [1, 2]}, index=[1, 0]))
    with contextlib.suppress(ImportError):
        import polars as pl

        made.append(pl.DataFrame({"text": ["a", "b"], "id": [1, 2]}))
    with contextlib.suppress(ImportError):
        import pyarrow as pa

        made.append(pa.table({"text": ["a", "b"], "id": [1, 2]}))
    return made


@pytest.mark.parametrize("frame", frames(), ids=lambda frame: type(frame).__module__)
def test_a_table_is_refused_and_its_column_taken_by_position(frame, load) -> None:
    model = load()
    calls = (
        *(model.embed, model.encode, model.stream, lambda t: model.rerank("a", t)),
        *(lambda t: model.score("a", t), lambda t: model.score(t, "a")),
    )
    for call in calls:
        with pytest.raises(
            PromptError, match=r"a table with the columns 'text', 'id'; expected .*\['text'\]"
        ):
            call(frame)
    column = frame["text"].to_pylist() if hasattr(frame["text"], "to_pylist") else frame["text"]
    assert np.array_equal(model.embed(column).numpy(), model.embed(["a", "b"]).numpy())
    assert [r.document for r in model.rerank("a", column)] == [
        r.document for r in model.rerank("a", ["a", "b"])
    ]


def test_numbers_of_numpy_are_numbers(load) -> None:
    params = PoolingParams(
        dimensions=np.int64(3), normalize=np.bool_(True), truncate_prompt_tokens=np.int32(4)
    )
    assert params == PoolingParams(dimensions=3, normalize=True, truncate_prompt_tokens=4)
    assert type(params.dimensions) is int
    assert PoolerConfig(logit_bias=np.float32(0.5), step_tag_id=np.uint8(3)).step_tag_id == 3
    assert LoadOptions(threads=np.int64(2)).threads == 2
    with_columns = PoolingParams(returned_token_ids=np.array([1, 2]), requires_token_ids=np.bool_(True))
    assert with_columns.returned_token_ids == [1, 2]
    assert PoolingParams(returned_token_ids=[np.int64(1), 2]).returned_token_ids == [1, 2]
    model = load(
        max_model_len=np.int64(30), truncate_prompt_tokens=np.int32(-1), verify_hashes=np.bool_(True)
    )
    assert model.info.max_seq_len == 30
    assert len(model.embed("the river " * 40)[0].prompt_token_ids) == 30
    assert len(model.embed("a", use_tqdm=np.bool_(False), deadline_s=np.float32(9))) == 1
    assert (
        len(model.embed("the river and the sea", truncate_prompt_tokens=np.int64(3))[0].prompt_token_ids) == 3
    )
    assert len(model.rerank("a", ["b", "c"], np.int16(1))) == 1
    assert len(list(model.stream(["a"] * 3, window=np.uint8(2)))) == 3
    with pytest.raises(ParamsError, match="prompt_name is a ndarray"):
        model.embed("a", prompt_name=np.array(["a", "b"]))


def test_a_device_in_an_array_of_no_dimensions(tiny) -> None:
    with pytest.raises(ParamsError, match="device=.*array"):
        EdgeModel(tiny(), device=np.array("x"))
