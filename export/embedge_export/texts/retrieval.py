"""A retrieval set that needs no download: docstrings of the standard library and of numpy.

A docstring's first paragraph is a query, what follows it is the one document that answers it. The set is a file beside
this one, made by tests/retrieval_set.py, so every export asks the same texts; figures are stated with its hash.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from embedge.types import FloatArray, IntArray

FILE = Path(__file__).with_name("retrieval_set.tsv.gz")

JUDGED_DOCUMENTS = 1024
"""Of the whole set."""

CALIBRATION_DOCUMENTS = 64
"""The set's last documents: int8 is calibrated on them, so that no variant is judged by them."""

CANDIDATES = 8
"""Documents that a reranker sees for each query."""

QUICK_DOCUMENTS = 192
"""How many documents the export's gate uses, beside texts of other kinds: the full set takes MiniLM a quarter of a
minute a variant on two cores."""

_WORD = re.compile(r"[a-z]{3,}")


class RetrievalSet(msgspec.Struct, frozen=True, kw_only=True):
    """Queries with one known answer each: query i asks for document i.

    Attributes:
        queries: first paragraphs.
        documents: what follows them, cut to at most 320 characters at a word's end.
        sha256: of all texts in order.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    sha256: str

    def subset(self, num_documents: int) -> RetrievalSet:
        """Take the first so many pairs; the set's order has nothing to do with its sources."""
        if num_documents >= len(self.documents):
            return self
        return _make(list(zip(self.queries, self.documents, strict=True))[:num_documents])


class RetrievalFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How well known answers are found, averaged over the queries, from 0 to 1.

    Attributes:
        ndcg_10: 1 / log2(1 + rank) of the answer, 0 below rank 10.
        recall_10: share of answers among the first ten.
        mrr: 1 / rank of the answer.
    """

    ndcg_10: float
    recall_10: float
    mrr: float


@functools.lru_cache(maxsize=1)
def built_in_set() -> RetrievalSet:
    """Read the whole set, in an order that has nothing to do with its sources."""
    lines = gzip.decompress(FILE.read_bytes()).decode().splitlines()
    return _make([(query, document) for query, _, document in (line.partition("\t") for line in lines)])


def ranks_of_answers(
    similarities: FloatArray, answers: IntArray | None = None
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rank of each query's answer among all its documents, from 1; equal similarities count against it.

    Args:
        similarities: (num_queries, num_documents).
        answers: (num_queries,) column of each answer; None means document i for query i.
    """
    rows = np.arange(len(similarities))
    of_answers = similarities[rows, rows if answers is None else answers][:, None]
    # nothing is known of NaN, so it must not rank first
    return (~(similarities < of_answers)).sum(axis=1).astype(np.int64)


def retrieval_figures(similarities: FloatArray, answers: IntArray | None = None) -> RetrievalFigures:
    """Judge similarities of shape (num_queries, num_documents); see `ranks_of_answers`."""
    ranks = ranks_of_answers(similarities, answers)
    found = ranks <= 10
    return RetrievalFigures(
        ndcg_10=float(np.where(found, 1 / np.log2(1 + ranks), 0.0).mean()),
        recall_10=float(found.mean()),
        mrr=float((1 / ranks).mean()),
    )


def candidates(texts: RetrievalSet, num_queries: int) -> list[tuple[str, str]]:
    """Pairs for a reranker: each query with its answer, then with the seven documents that share most with it.

    Args:
        texts: the set.
        num_queries: how many queries, from the first.

    Returns:
        8 * num_queries (query, document), query by query; words that few documents have count more.
    """
    words = [set(_WORD.findall(document.lower())) for document in texts.documents]
    frequency = Counter(word for document in words for word in document)
    pairs = []
    for answer, query in enumerate(texts.queries[:num_queries]):
        asked = set(_WORD.findall(query.lower()))
        shared = [sum(1 / frequency[word] for word in sorted(asked & document)) for document in words]
        others = sorted(
            (index for index in range(len(words)) if index != answer), key=lambda i: (-shared[i], i)
        )
        pairs += [(query, texts.documents[index]) for index in (answer, *others[: CANDIDATES - 1])]
    return pairs


def _make(pairs: Sequence[tuple[str, str]]) -> RetrievalSet:
    digest = hashlib.sha256()
    for query, document in pairs:
        digest.update(f"{query}\0{document}\0".encode())
    return RetrievalSet(
        queries=tuple(query for query, _ in pairs),
        documents=tuple(document for _, document in pairs),
        sha256=digest.hexdigest(),
    )
