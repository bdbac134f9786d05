"""Results go where arrays go, and to other processes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from embedge import PoolingParams, ShapeError
from embedge._text.ahead import ArrivingRows
from embedge._text.tokens import Encoded, EncodedRows

TEXTS = ["the river", "the city is good", "a"]


def results(load) -> dict:
    """Of every verb."""
    embedder, sparse, classifier = (
        load(bundle={"changes": {"matryoshka": True}}),
        load("sparse"),
        load("classify"),
    )
    return {
        "encode": embedder.encode(TEXTS),
        "embed": embedder.embed(TEXTS),
        "many": embedder.embed(TEXTS * 20),
        "dimensions": embedder.embed(TEXTS, pooling_params=[PoolingParams(dimensions=k) for k in (2, 2, 2)]),
        "tokens": embedder.encode(TEXTS, pooling_task="token_embed"),
        "sparse": sparse.embed_sparse(TEXTS),
        "classify": classifier.classify(TEXTS),
        "token_classify": load("token_classify").encode(TEXTS),
        "score": load("cross_encoder").score("the river", TEXTS),
        "cosine": embedder.score("the river", TEXTS),
    }


def plain(output) -> tuple:
    """All that an output states."""
    fields = {name: getattr(output, name) for name in output.__struct_fields__ if name != "outputs"}
    answer = output.outputs
    values = [getattr(answer, name) for name in answer.__struct_fields__]
    return fields, [v.tolist() if isinstance(v, np.ndarray) else v for v in values]


def test_results_pickle_and_copy_whole(load) -> None:
    for name, given in results(load).items():
        for made in (pickle.loads(pickle.dumps(given)), copy.deepcopy(given), copy.copy(given)):
            assert type(made) is type(given), name
            assert list(map(plain, made)) == list(map(plain, given)), name
            pairs = zip(made.numpy(), given.numpy(), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs), name
    (rank,) = load("cross_encoder").rerank("the river", ["good"])
    assert pickle.loads(pickle.dumps(rank)) == rank


def test_a_pickled_result_holds_its_rows_once(load) -> None:
    given = load().embed(TEXTS * 2000)
    rows = given.numpy()
    # 12 bytes for each prompt's tokens and 4 for each of their facts beside the row
    assert len(pickle.dumps(given)) < rows.nbytes + 200 * len(rows)


def test_what_a_caller_passed_along_is_not_pickled(load) -> None:
    params = PoolingParams(extra_kwargs={"call": lambda: 1})
    given = load().embed(TEXTS, pooling_params=params)
    assert len(pickle.loads(pickle.dumps(given))) == 3


def test_prompts_that_arrived_in_pieces_pickle() -> None:
    prompts = [Encoded(token_ids=[k] * (k + 1), num_truncated=k) for k in range(5)]
    arriving = ArrivingRows(range(5), lambda positions: EncodedRows.of([prompts[i] for i in positions]))
    made = pickle.loads(pickle.dumps(arriving))
    assert [(e.token_ids, e.num_truncated) for e in made] == [(e.token_ids, e.num_truncated) for e in prompts]


def test_numpy_takes_results_for_their_arrays(load) -> None:
    for name, given in results(load).items():
        if name in ("tokens", "token_classify", "sparse"):
            with pytest.raises(ShapeError, match=r"one array per prompt, .* expected \.numpy\(\)"):
                np.array(given)
        else:
            expected = given.numpy()
            assert np.asarray(given) is expected, name
            assert np.asarray(given, dtype=np.float64).dtype == np.float64
            assert not np.shares_memory(np.array(given), expected)
            assert np.array_equal(np.array(list(given)), expected)
        if name != "sparse":
            assert np.array_equal(np.asarray(given[1]), given.numpy()[1]), name
            assert np.array_equal(np.asarray(given[1].outputs), given.numpy()[1]), name
    sparse = load("sparse").embed_sparse("the river")[0]
    assert np.array_equal(np.asarray(sparse), sparse.outputs.data)


def test_scikit_learn_takes_results(load) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    linear = pytest.importorskip("sklearn.linear_model")
    selection = pytest.importorskip("sklearn.model_selection")
    model = load()
    outputs = model.embed(["the river", "the rivers", "good city", "good cities"])
    assert len(cluster.KMeans(2, n_init=1, random_state=0).fit(outputs).labels_) == 4
    fitted = linear.LogisticRegression().fit(outputs, [0, 0, 1, 1])
    assert np.array_equal(fitted.predict(outputs), fitted.predict(outputs.numpy()))
    scores = [
        selection.cross_val_score(fitted, rows, [0, 1, 0, 1], cv=2) for rows in (outputs, outputs.numpy())
    ]
    assert np.array_equal(*scores)
    assert len(outputs[0]) == 8
    assert outputs[0]
