"""scikit-learn's own checks, and what people build around a transformer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

from embedge import EdgeModel
from embedge.errors import ParamsError, PromptError
from embedge.integrations.sklearn import EmbedgeVectorizer

TEXTS = ["the river water", "good food", "the water", "food in the city", "river", "new food"] * 5
LABELS = [0, 1, 0, 1, 0, 1] * 5


class OfNumbers(EmbedgeVectorizer):
    """Takes the tables of numbers that scikit-learn's checks are made of: each row is a text of as many words."""

    def fit(self, X, y=None):  # noqa: N803
        self.n_features_in_ = validate_data(self, X).shape[1]
        return super().fit(X, y)

    def transform(self, X):  # noqa: N803
        rows = validate_data(self, X, reset=False)
        words = np.array(["the", "river", "food", "city", "house", "new", "old", "water"])
        return super().transform([" ".join(words[np.floor(row).astype(int) % 8]) for row in rows])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = True, False
        return tags


def test_scikit_learn_s_own_checks(embedder) -> None:
    """Of texts it asks one thing only, as of its own vectorizers; so it is asked of numbers that become texts, too."""
    with pytest.warns(SkipTestWarning, match="Can't test estimator EmbedgeVectorizer"):
        check_estimator(EmbedgeVectorizer(embedder))
    outcomes = check_estimator(OfNumbers(str(embedder), long_text="truncate"), on_skip=None, on_fail=None)
    assert [each["check_name"] for each in outcomes if each["status"] not in ("passed", "skipped")] == []
    assert sum(each["status"] == "passed" for each in outcomes) > 40


def test_its_vectors_are_the_sdk_s(embedder, model) -> None:
    wanted = model.embed(TEXTS).numpy()
    for given in (TEXTS, np.array(TEXTS), tuple(TEXTS), iter(TEXTS)):
        assert np.array_equal(EmbedgeVectorizer(embedder).fit_transform(given), wanted)
    assert np.array_equal(EmbedgeVectorizer(model).transform(TEXTS), wanted)
    named = EmbedgeVectorizer(embedder, prompt_name="query").transform(TEXTS)
    assert np.array_equal(named, model.embed(TEXTS, prompt_name="query").numpy())
    names = EmbedgeVectorizer(embedder).fit(TEXTS).get_feature_names_out()
    assert (len(names), names[0]) == (wanted.shape[1], "embedgevectorizer0")


@pytest.mark.parametrize("loaded", [False, True])
def test_clones_folds_and_grids(embedder, model, loaded) -> None:
    given = model if loaded else embedder
    pipeline = make_pipeline(EmbedgeVectorizer(given), LogisticRegression())
    assert clone(pipeline).get_params()["embedgevectorizer__long_text"] == "error"
    scores = cross_val_score(pipeline, TEXTS, LABELS, cv=3)
    assert scores.shape == (3,)
    wanted = cross_val_score(LogisticRegression(), model.embed(TEXTS).numpy(), LABELS, cv=3)
    assert np.array_equal(scores, wanted)
    grid = GridSearchCV(pipeline, {"embedgevectorizer__prompt_name": [None, "query"]}, cv=2).fit(
        TEXTS, LABELS
    )
    assert grid.predict(["the river"]) in (0, 1)


def test_a_column_of_a_table(embedder, model) -> None:
    table = np.array(list(zip(TEXTS, map(str, LABELS), strict=True)), dtype=object)
    columns = make_column_transformer((EmbedgeVectorizer(embedder), 0))
    assert np.array_equal(columns.fit_transform(table), model.embed(TEXTS).numpy())


def test_it_is_pickled(embedder) -> None:
    fitted = make_pipeline(EmbedgeVectorizer(embedder), LogisticRegression()).fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_what_it_does_not_take(embedder, model) -> None:
    with pytest.raises(PromptError, match="limit is 32"):
        EmbedgeVectorizer(embedder).transform(["water " * 99])
    assert EmbedgeVectorizer(embedder, long_text="mean").transform(["water " * 99]).shape == (1, 8)
    with pytest.raises(PromptError):
        EmbedgeVectorizer(embedder).fit_transform(np.zeros((2, 2)))
    with pytest.raises(ParamsError, match="is loaded"):
        EmbedgeVectorizer(model, model_kwargs={"threads": 1}).fit(TEXTS)
    assert isinstance(EmbedgeVectorizer(embedder).fit(TEXTS).model_, EdgeModel)
