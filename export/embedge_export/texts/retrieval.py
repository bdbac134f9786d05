"""A retrieval set that needs no download: docstrings of the standard library and of installed packages.

A docstring's first paragraph is a query, what follows it is the one document that answers it. The texts are read
from source files, so that nothing is imported for it. They depend on the Python and numpy at hand; figures are
therefore stated together with the set's hash, and compared with the float32 graph's on the very same texts.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray, IntArray

PACKAGES = ("numpy", "onnx", "msgspec")
"""Installed with the exporter, apart from torch and transformers, whose sources take too long to read."""

MIN_DOCUMENTS = 2000
CALIBRATION_DOCUMENTS = 64
"""The set's last documents: int8 is calibrated on them, so that no variant is judged by them."""

CANDIDATES = 8
"""Documents that a reranker sees for each query."""

QUICK_DOCUMENTS = 256
"""How many documents the export's gate uses, beside texts of other kinds: the full set takes MiniLM half a minute a
variant on two cores."""

_QUERY_CHARS = (15, 200)
_DOCUMENT_CHARS = (80, 320)
_MIN_WORDS = 4
_WORD = re.compile(r"[a-z]{3,}")
_UNDERLINE = re.compile(r"[-=~^]{3,}")
# tests and tools say little; the underscored ones repeat the docstrings of their public twins
_SKIPPED = {
    "test", "tests", "idlelib", "lib2to3", "turtledemo", "tkinter", "ensurepip", "pydoc_data", "encodings",
    "site-packages", "dist-packages", "__pycache__", "_pydecimal.py", "_pyio.py", "_pydatetime.py",
    "turtle.py", "f2py", "distutils", "backend", "reference", "typing",
}  # fmt: skip


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
    """Read the whole set; takes a few seconds the first time.

    Raises:
        ExportError: the Python here came without its source files.
    """
    pairs = _without_twins(_pairs())
    if len(pairs) < MIN_DOCUMENTS:
        raise ExportError(
            f"the built-in retrieval set has {len(pairs)} documents; expected at least {MIN_DOCUMENTS} from the "
            "docstrings of Python and numpy. Use a Python that has its standard library's .py files."
        )
    # a folder's files follow one another, and neighbours would be near duplicates in any subset
    pairs.sort(key=lambda pair: hashlib.sha256(pair[0].encode()).digest())
    return _make(pairs)


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


def _pairs() -> Iterator[tuple[str, str]]:
    for root in _roots():
        for path in _sources(root):
            for docstring in _docstrings(path):
                query, _, document = docstring.partition("\n\n")
                query = " ".join(query.split())
                document = _cut(" ".join(_UNDERLINE.sub(" ", document).split()))
                if _fits(query, document):
                    yield query, document


def _roots() -> list[Path]:
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            roots.append(Path(spec.origin).parent)
    return roots


def _sources(root: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        found += [Path(folder, name) for name in files if name.endswith(".py") and name not in _SKIPPED]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _docstrings(path: Path) -> Iterator[str]:
    source = path.read_bytes()
    if b'"""' not in source:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's sources
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates with a .py name
        return
    waiting: list[ast.AST] = [tree]
    while waiting:  # statements only: walking the expressions too takes ten times as long
        node = waiting.pop()
        if isinstance(node, ast.Expr):
            yield from _added_docstring(node.value)
            continue
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += reversed(getattr(node, "body", []))


def _added_docstring(call: ast.expr) -> Iterator[str]:
    """Docstrings that numpy gives its compiled functions: add_newdoc(module, name, text or (name, text))."""
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "add_newdoc"):
        return
    for argument in call.args[2:]:
        for part in ast.walk(argument):
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and "\n" in part.value:
                yield inspect.cleandoc(part.value)


def _cut(document: str) -> str:
    limit = _DOCUMENT_CHARS[1]
    return (
        document if len(document) <= limit else document[: limit + 1].rpartition(" ")[0] or document[:limit]
    )


def _fits(query: str, document: str) -> bool:
    return (
        _QUERY_CHARS[0] <= len(query) <= _QUERY_CHARS[1]
        and len(query.split()) >= _MIN_WORDS
        and len(document) >= _DOCUMENT_CHARS[0]
        and query.lower().rstrip(".") not in document.lower()
    )


def _without_twins(pairs: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out queries and documents that occur more than once: their answer would be ambiguous."""
    distinct = list(dict.fromkeys(pairs))
    queries = Counter(query.lower() for query, _ in distinct)
    # documents of sibling functions often begin alike and differ in their last words only
    documents = Counter(document[:150] for _, document in distinct)
    return [
        (query, document)
        for query, document in distinct
        if queries[query.lower()] == 1 and documents[document[:150]] == 1
    ]
