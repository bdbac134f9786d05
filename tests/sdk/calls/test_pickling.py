"""Models and options go to other processes, and are copied."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from embedge import BundleError, EdgeModel, PoolerConfig, PoolingParams, SessionError
from embedge._calls.options import CallOptions, PairOptions
from embedge._engine.options import LoadOptions

TEXTS = ["the river", "the city is good"]


def embedded(model: EdgeModel, texts: list[str]):
    """Runs in another process."""
    return os.getpid(), model.info.variant, model.embed(texts)


def test_options_pickle_and_copy() -> None:
    for given in (
        PoolingParams(dimensions=3, extra_kwargs={"a": [1]}),
        PoolerConfig(pooling_type="CLS"),
        LoadOptions(threads=2, pooler_config=PoolerConfig(normalize=False)),
        CallOptions(pooling_params=PoolingParams(normalize=True), deadline_s=3.0),
        PairOptions(instruction="a"),
    ):
        for made in (pickle.loads(pickle.dumps(given)), copy.deepcopy(given)):
            assert type(made) is type(given)
            assert repr(made) == repr(given)


def test_a_process_pool_loads_the_same_model(load) -> None:
    model = load(pooler_config=PoolerConfig(normalize=False), truncate_prompt_tokens=-1)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        process, variant, outputs = pool.submit(embedded, model, TEXTS).result()
    assert process != os.getpid()
    assert variant == model.info.variant
    assert np.array_equal(outputs.numpy(), model.embed(TEXTS).numpy())
    assert [output.prompt_token_ids for output in outputs] == [o.prompt_token_ids for o in model.embed(TEXTS)]


def test_joblib_loads_it_too(load) -> None:
    joblib = pytest.importorskip("joblib")
    model = load()
    ((process, _, outputs),) = joblib.Parallel(2)([joblib.delayed(embedded)(model, TEXTS)])
    assert process != os.getpid()
    assert np.array_equal(outputs.numpy(), model.embed(TEXTS).numpy())


def test_a_closure_carries_it(load) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")  # by which Ray and Spark send functions
    model = load()
    sent = pickle.loads(cloudpickle.dumps(lambda texts: model.embed(texts).numpy()))
    assert np.array_equal(sent(TEXTS), model.embed(TEXTS).numpy())


def test_another_bundle_in_the_folder_is_refused(tiny) -> None:
    folder = tiny()
    with EdgeModel(folder, device="cpu") as model:
        sent = pickle.dumps(model)
        with pickle.loads(sent) as again:
            assert again.info == model.info
        from embedge.testing import tiny_bundle

        tiny_bundle(folder, seed=3, changes={"name": "another"})
        with pytest.raises(BundleError, match="fingerprint=.* was expected. It is another model"):
            pickle.loads(sent)


def test_a_relative_folder_is_found_from_elsewhere(tiny, monkeypatch, tmp_path) -> None:
    folder = tiny()
    monkeypatch.chdir(folder.parent)
    with EdgeModel(folder.name, device="cpu") as model:
        sent = pickle.dumps(model)
    monkeypatch.chdir(tmp_path)
    pickle.loads(sent).close()


def test_a_copy_shares_the_graph_and_is_closed_by_itself(load) -> None:
    model = load()
    expected = model.embed(TEXTS).numpy()
    for make in (copy.copy, copy.deepcopy):
        made = make(model)
        assert made.lost_devices == ()
        assert made._open() is model._open()
        made.close()
        with pytest.raises(SessionError, match="is closed"):
            made.embed("a")
        assert np.array_equal(model.embed(TEXTS).numpy(), expected)
    made = copy.deepcopy({"model": model})["model"]
    model.close()
    assert np.array_equal(made.embed(TEXTS).numpy(), expected)
    for use in (pickle.dumps, copy.copy):
        with pytest.raises(SessionError, match="is closed"):
            use(model)


def test_scikit_learn_clones_what_holds_a_model(load) -> None:
    base = pytest.importorskip("sklearn.base")

    class Embedder(base.TransformerMixin, base.BaseEstimator):
        def __init__(self, model=None) -> None:
            self.model = model

        def transform(self, texts):
            return self.model.embed(texts)

    model = load()
    made = base.clone(Embedder(model))
    assert np.array_equal(np.asarray(made.transform(TEXTS)), model.embed(TEXTS).numpy())


def test_loading_is_one_line_of_the_log(tiny, caplog) -> None:
    with caplog.at_level(logging.INFO, "embedge"), EdgeModel(tiny(), device="cpu", threads=1) as model:
        assert [record.name for record in caplog.records] == ["embedge"]
        (line,) = caplog.messages
    assert line.startswith(
        f"loaded 'tiny-embed' ({model.info.fingerprint[:12]}), variant fp32 on cpu with 1 threads, in 0."
    )
