"""Make the retrieval set that the exporter brings: `python -m tests.retrieval_set`.

A docstring's first paragraph is a query, what follows it is the one document that answers it. The docstrings are read
from source files of the standard library and of numpy, so that nothing is imported for it. What is written depends on
the Python and numpy at hand; it is committed, so that every export asks the same texts. NOTICE says whose they are.
"""

from __future__ import annotations

import ast
import gzip
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

from embedge_export.texts.retrieval import CALIBRATION_DOCUMENTS, FILE, JUDGED_DOCUMENTS

PACKAGES = ("numpy",)

_QUERY_CHARS = (15, 200)
_DOCUMENT_CHARS = (80, 320)
_MIN_WORDS = 4
_UNDERLINE = re.compile(r"[-=~^]{3,}")
# tests and tools say little; the underscored ones repeat the docstrings of their public twins
_SKIPPED = {
    "test", "tests", "idlelib", "lib2to3", "turtledemo", "tkinter", "ensurepip", "pydoc_data", "encodings",
    "site-packages", "dist-packages", "__pycache__", "_pydecimal.py", "_pyio.py", "_pydatetime.py",
    "turtle.py", "f2py", "distutils", "typing",
}  # fmt: skip


def main() -> None:
    """Write the set into the exporter's sources."""
    pairs = retrieval_pairs(_roots())
    size = JUDGED_DOCUMENTS + CALIBRATION_DOCUMENTS
    if len(pairs) < size:
        raise SystemExit(f"found {len(pairs)} documents; expected at least {size} in {PACKAGES} and Python")
    FILE.write_bytes(packed(pairs[:size]))


def retrieval_pairs(roots: Sequence[Path]) -> list[tuple[str, str]]:
    """Queries and their documents from the sources in some folders, in an order that has nothing to do with these."""
    pairs = _without_twins(_pairs(roots))
    # a folder's files follow one another, and neighbours would be near duplicates in any subset
    return sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())


def packed(pairs: Sequence[tuple[str, str]]) -> bytes:
    """The set's file: a line for each pair, with a tab between."""
    lines = "".join(f"{query}\t{document}\n" for query, document in pairs)
    return gzip.compress(lines.encode(), mtime=0)


def _pairs(roots: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for root in roots:
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


if __name__ == "__main__":
    main()
