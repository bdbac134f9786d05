"""The built-in retrieval and similarity sets, and the figures computed from them."""

import gzip
import hashlib

import numpy as np
import pytest
from tests.retrieval_set import packed, retrieval_pairs

from embedge_export.texts.graded_pairs import GRADED_PAIRS, kendall, spearman
from embedge_export.texts.retrieval import (
    CALIBRATION_DOCUMENTS,
    FILE,
    JUDGED_DOCUMENTS,
    QUICK_DOCUMENTS,
    RetrievalSet,
    built_in_set,
    candidates,
    ranks_of_answers,
    retrieval_figures,
)


def test_the_set_is_large_and_every_answer_is_unambiguous():
    texts = built_in_set()
    assert len(texts.queries) == len(texts.documents) == JUDGED_DOCUMENTS + CALIBRATION_DOCUMENTS
    assert len({query.lower() for query in texts.queries}) == len(texts.queries)
    assert len(set(texts.documents)) == len(texts.documents)
    for query, document in zip(texts.queries, texts.documents, strict=True):
        assert query.lower().rstrip(".") not in document.lower()
        assert 80 <= len(document) <= 320
        assert query == " ".join(query.split())


def test_the_set_is_made_of_docstrings_whose_answers_are_unambiguous(tmp_path):
    said = "Words about what the function does, so many that they make a document, and a reason why."
    (tmp_path / "module.py").write_text(
        f'''def found():
    """Find the first of all the values.

    {said}
    """

def short():
    """Find the last of all the values.

    Too little.
    """

def twin():
    """Say what another function says, too.

    The same {said}
    """

def other_twin():
    """Say what another function says, as well.

    The same {said}
    """

add_newdoc("module", "compiled", """Do what compiled functions do.

    Of those {said}
    """)
'''
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "of.py").write_text(f'"""Test what is in the module.\n\n{said}!"""\n')
    assert sorted(retrieval_pairs([tmp_path])) == [
        ("Do what compiled functions do.", f"Of those {said}"),
        ("Find the first of all the values.", said),
    ]


def test_the_sets_file_says_what_was_packed():
    pairs = list(zip(built_in_set().queries, built_in_set().documents, strict=True))
    assert gzip.decompress(packed(pairs)) == gzip.decompress(FILE.read_bytes())
    # in an order that tells nothing of their sources
    assert pairs == sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())


def test_a_subset_has_its_own_hash():
    texts = built_in_set().subset(QUICK_DOCUMENTS)
    assert len(texts.documents) == QUICK_DOCUMENTS
    assert texts.queries == built_in_set().queries[:QUICK_DOCUMENTS]
    assert texts.sha256 != built_in_set().sha256
    assert built_in_set().subset(10**6) is built_in_set()


def test_nothing_is_judged_by_what_int8_is_calibrated_on(tmp_path):
    from embedge.manifest import load_manifest
    from embedge.testing import tiny_bundle
    from embedge_export.verify.questions import choose_questions

    asked = choose_questions(load_manifest(tiny_bundle(tmp_path)), 10**9, full=True).texts
    assert len(asked.documents) == JUDGED_DOCUMENTS
    assert not set(asked.documents) & set(built_in_set().documents[-CALIBRATION_DOCUMENTS:])


def test_figures_follow_from_the_ranks():
    # the answers rank first, second and twelfth
    similarities = np.zeros((3, 12), dtype=np.float32)
    similarities[0, 0] = 1.0
    similarities[1, 1:3] = 0.5, 0.6
    similarities[2] = np.arange(12) + 1.0
    similarities[2, 2] = 0.0
    assert ranks_of_answers(similarities).tolist() == [1, 2, 12]
    figures = retrieval_figures(similarities)
    assert figures.ndcg_10 == pytest.approx((1 + 1 / np.log2(3)) / 3)
    assert figures.recall_10 == pytest.approx(2 / 3)
    assert figures.mrr == pytest.approx((1 + 1 / 2 + 1 / 12) / 3)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_model_that_says_nothing_finds_nothing(value):
    figures = retrieval_figures(np.full((20, 20), value, dtype=np.float32))
    assert figures.ndcg_10 == 0.0
    assert figures.recall_10 == 0.0


def test_candidates_put_the_answer_first():
    texts = built_in_set().subset(40)
    pairs = candidates(texts, 5)
    assert len(pairs) == 40
    assert pairs[8] == (texts.queries[1], texts.documents[1])
    assert len({document for _, document in pairs[8:16]}) == 8


def test_the_other_candidates_share_words_with_the_query():
    texts = RetrievalSet(
        queries=("sort a list in place", "open a file"),
        documents=(
            "keeps order",
            "writes bytes",
            *(f"nothing {i}" for i in range(8)),
            "places a sorted list",
        ),
        sha256="",
    )
    assert [document for _, document in candidates(texts, 1)][:2] == ["keeps order", "places a sorted list"]


def test_the_similarity_set_uses_the_whole_scale():
    assert len(set(GRADED_PAIRS)) == len(GRADED_PAIRS) == 60
    grades = [grade for _, _, grade in GRADED_PAIRS]
    assert (min(grades), max(grades)) == (0.0, 5.0)
    for low in range(5):
        assert sum(low <= grade <= low + 1 for grade in grades) >= 5


def test_rank_correlations_handle_ties_as_scipy_does():
    a, b = np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(a, b) == pytest.approx(0.9486832980505138)
    assert kendall(a, b) == pytest.approx(0.9128709291752769)
    assert spearman(b, -b) == kendall(b, -b) == -1.0
    assert spearman(b, np.ones(4)) == kendall(b, np.ones(4)) == 0.0
