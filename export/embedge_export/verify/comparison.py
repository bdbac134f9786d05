"""A variant's answers against a reference's: cosines and overlap, order of documents, or labels and probabilities."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.errors import VerificationError
from embedge.manifest import EndToEnd, Manifest
from embedge.types import Activation, FloatArray
from embedge_export.texts.graded_pairs import GRADED_PAIRS, spearman
from embedge_export.texts.retrieval import CANDIDATES, RetrievalFigures, retrieval_figures
from embedge_export.verify.asking import Answers
from embedge_export.verify.questions import Questions

Rows: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

# a decision by less is a toss, which rounding may settle either way
_CLEAR_MARGIN = 0.02
_HELD_APART = 0.01


def compare(
    figures: EndToEnd, manifest: Manifest, asked: Questions, answers: Answers, reference: Answers | None
) -> EndToEnd:
    """Fill in the figures that suit how the answers are compared.

    Args:
        figures: what is known without comparing.
        manifest: of the bundle.
        asked: the questions.
        answers: the variant's.
        reference: the reference's, to all questions or the first few; None leaves only what needs no reference.

    Raises:
        VerificationError: the answers have another shape than the reference's.
    """
    if asked.comparison == "embed":
        by_dot = manifest.similarity == "dot" and not manifest.normalize
        return _compare_embeddings(figures, asked, answers, reference, by_dot=by_dot)
    if asked.comparison == "score":
        return _compare_scores(figures, asked, answers, reference)
    activation = "identity" if manifest.head is None else manifest.head.activation
    return _compare_labels(figures, answers, reference, activation)


def cosines(a: FloatArray, b: FloatArray) -> Rows:
    """Cosine of each row of `a` with the same row of `b`; two rows of zeros are alike."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y))
    dots = np.einsum("ij,ij->i", x, y)
    both_zero = ~(x.any(axis=1) | y.any(axis=1))
    # rounding may carry a cosine above 1
    return np.where(both_zero, 1.0, np.minimum(dots / np.maximum(norms, 1e-300), 1.0))


def similarities(asked: Questions, rows: FloatArray, *, by_dot: bool = False) -> FloatArray:
    """Similarity of every query with every document, (num_queries, num_documents)."""
    size = len(asked.texts.documents)
    documents, queries = rows[:size], rows[size : 2 * size]
    if not by_dot:
        documents, queries = _unit(documents), _unit(queries)
    return queries @ documents.T


def answer_ranking(asked: Questions, answers: Answers) -> FloatArray:
    """A reranker's scores, (num_queries, 8); the answer is column 0."""
    return answers.rows[: len(asked.pairs)].reshape(-1, CANDIDATES)


def _compare_embeddings(
    figures: EndToEnd, asked: Questions, answers: Answers, reference: Answers | None, *, by_dot: bool
) -> EndToEnd:
    found = similarities(asked, answers.rows, by_dot=by_dot)
    pairs = len(GRADED_PAIRS)
    graded = cosines(answers.rows[-2 * pairs : -pairs], answers.rows[-pairs:])
    grades = np.array([grade for _, _, grade in GRADED_PAIRS], dtype=np.float32)
    figures = msgspec.structs.replace(
        _with_retrieval(figures, retrieval_figures(found), found.shape[1]),
        spearman=spearman(graded.astype(np.float32), grades),
    )
    if reference is None:
        return figures
    each = cosines(answers.rows[: len(reference.rows)], reference.rows)
    figures = msgspec.structs.replace(figures, cosine_min=float(each.min()), cosine_mean=float(each.mean()))
    if len(reference.rows) < len(answers.rows):
        return figures
    expected = similarities(asked, reference.rows, by_dot=by_dot)
    return msgspec.structs.replace(
        figures,
        top_10_overlap=_overlap(found, expected),
        reference_ndcg_10=retrieval_figures(expected).ndcg_10,
    )


def _compare_scores(
    figures: EndToEnd, asked: Questions, answers: Answers, reference: Answers | None
) -> EndToEnd:
    table = answer_ranking(asked, answers)
    first = np.zeros(len(table), dtype=np.int64)
    figures = _with_retrieval(figures, retrieval_figures(table, first), CANDIDATES)
    if reference is None:
        return figures
    expected = reference.rows.astype(np.float64).ravel()
    actual = answers.rows[: len(expected)].astype(np.float64).ravel()
    scale = max(1.0, float(expected.max() - expected.min()))
    figures = msgspec.structs.replace(
        figures,
        max_score_diff=float(np.abs(actual - expected).max()) / scale,
        rank_correlation=_tau_of_pairs_apart(actual, expected),
    )
    if len(reference.rows) == len(answers.rows):
        ndcg = retrieval_figures(answer_ranking(asked, reference), first).ndcg_10
        figures = msgspec.structs.replace(figures, reference_ndcg_10=ndcg)
    return figures


def _compare_labels(
    figures: EndToEnd, answers: Answers, reference: Answers | None, activation: Activation
) -> EndToEnd:
    if reference is None:
        return figures
    expected = reference.rows.astype(np.float64)
    actual = answers.rows[: len(expected)].astype(np.float64)
    if actual.shape != expected.shape or not expected.size:
        raise VerificationError(
            f"a classifier gives {actual.shape} probabilities; expected {expected.shape} as the reference, "
            "and at least one. Please report this with the model's name."
        )
    clear, agrees = _decisions(actual, expected, activation)
    return msgspec.structs.replace(
        figures,
        label_agreement=float(agrees[clear].mean()) if clear.any() else 1.0,
        max_prob_diff=float(np.abs(actual - expected).max()) / max(1.0, float(np.ptp(expected))),
    )


def _decisions(actual: Rows, expected: Rows, activation: Activation) -> tuple[Bools, Bools]:
    """What the reference decides clearly, and where the same is decided; a regression decides nothing."""
    if activation == "softmax" and expected.shape[1] > 1:
        best = np.sort(expected, axis=1)
        return best[:, -1] - best[:, -2] >= _CLEAR_MARGIN, actual.argmax(axis=1) == expected.argmax(axis=1)
    clear = np.abs(expected - 0.5) >= _CLEAR_MARGIN / 2
    return clear & (activation == "sigmoid"), (actual >= 0.5) == (expected >= 0.5)


def _tau_of_pairs_apart(actual: Rows, expected: Rows) -> float:
    """Kendall's tau over the pairs that the reference holds apart by 1 % of its range; 1 if there are none."""
    upper = np.triu_indices(len(expected), 1)
    gaps = np.subtract.outer(expected, expected)[upper]
    apart = np.abs(gaps) > _HELD_APART * float(np.ptp(expected))
    if not apart.any():
        return 1.0
    return float((np.sign(gaps[apart]) * np.sign(np.subtract.outer(actual, actual)[upper][apart])).mean())


def _overlap(found: FloatArray, expected: FloatArray) -> float:
    top = [np.argsort(-table, axis=1, kind="stable")[:, :10] for table in (found, expected)]
    shared = [len(set(a) & set(b)) / len(a) for a, b in zip(*(t.tolist() for t in top), strict=True)]
    return float(np.mean(shared))


def _with_retrieval(figures: EndToEnd, found: RetrievalFigures, num_documents: int) -> EndToEnd:
    return msgspec.structs.replace(figures, num_documents=num_documents, **msgspec.structs.asdict(found))


def _unit(rows: FloatArray) -> FloatArray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
