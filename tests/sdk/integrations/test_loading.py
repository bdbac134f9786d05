"""Models that adapters name: loaded once while somebody holds them, and always the bundle that is there."""

from __future__ import annotations

import gc
import shutil
import weakref

import numpy as np
import pytest

from embedge import EdgeModel
from embedge.errors import BundleError, ParamsError, PromptError, TaskNotSupportedError
from embedge.integrations._loading import Embedder, Reranker, loaded
from embedge.testing import tiny_bundle


def test_who_names_the_same_shares_it(tmp_path, monkeypatch) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = loaded(bundle)
    assert loaded(str(bundle)) is loaded("tiny") is model
    assert loaded(model) is model
    assert loaded(bundle, {"threads": 1}) is not model
    held = weakref.ref(model)
    del model
    gc.collect()
    assert held() is None


def test_another_bundle_of_the_name_is_loaded(tmp_path) -> None:
    first = loaded(tiny_bundle(tmp_path / "tiny"))
    before = first.embed("the river").numpy()
    shutil.rmtree(tmp_path / "tiny")
    second = loaded(tiny_bundle(tmp_path / "tiny", seed=1))
    assert not np.array_equal(second.embed("the river").numpy(), before)


def test_a_closed_model_is_loaded_again(tmp_path) -> None:
    first = loaded(tiny_bundle(tmp_path))
    first.close()
    assert loaded(tmp_path).embed("the river").numpy().shape == (1, 8)


def test_what_cannot_be_loaded(tmp_path) -> None:
    with pytest.raises(BundleError):
        loaded(tmp_path / "missing")
    with EdgeModel(tiny_bundle(tmp_path)) as model, pytest.raises(ParamsError, match="come too late"):
        loaded(model, {"threads": 1})
    with pytest.raises(ParamsError, match="'batch_size', 'variantt'"):
        loaded(tmp_path, {"variantt": "int8", "batch_size": 3, "threads": 1})


def test_its_size(tmp_path) -> None:
    small = tiny_bundle(tmp_path / "small", changes={"matryoshka": (4, 8)})
    assert Embedder(model=loaded(small)).dim == 8
    cut = Embedder(model=loaded(small), dimensions=4)
    assert cut.dim == cut.documents(["the river"]).shape[1] == cut.queries(["the river"]).shape[1] == 4
    classifier = loaded(tiny_bundle(tmp_path / "classifier", "classify"))
    with pytest.raises(TaskNotSupportedError, match="classify"):
        assert Embedder(model=classifier).dim


def test_a_reranker_cuts_or_refuses(tmp_path) -> None:
    model = loaded(tiny_bundle(tmp_path, "cross_encoder"))
    texts = ["the river", "water " * 99]
    assert len(Reranker(model=model, long_text="truncate").ranking("river", texts)) == 2
    assert len(Reranker(model=model, long_text="truncate", top_n=2).ranking("river", texts, 1)) == 1
    with pytest.raises(PromptError, match='limit is 32. Pass long_text="truncate"') as raised:
        Reranker(model=model).ranking("river", texts)
    assert raised.value.index == 1


def test_a_text_that_is_too_long(tmp_path) -> None:
    embedder = Embedder(model=loaded(tiny_bundle(tmp_path)))
    for ask in (embedder.queries, embedder.documents, embedder.texts):
        with pytest.raises(PromptError, match='Pass long_text="truncate"') as raised:
            ask(["the river", "water " * 99])
        assert raised.value.index == 1
