"""Texts without a download: docstrings of the standard library, numpy and scikit-learn, read from their sources.

The pool depends on the versions of Python and of the packages that constraints.txt pins, so every result states the
sha256 of its texts, and a corpus is built once and then read by the processes of every environment.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import random
import re
import sysconfig
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SPECIAL_TOKENS = 2
PACKAGES = ("numpy", "sklearn")
SKIPPED = {
    "test", "tests", "_test", "_tests", "testing", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "encodings",
    "site-packages", "dist-packages", "__pycache__", "_pydecimal.py", "_pyio.py", "_pydatetime.py", "externals",
}  # fmt: skip
WORD = re.compile(r"[A-Za-z]{2,}")


def documents() -> list[str]:
    """Prose of each docstring that has some, one line per document, without repetitions, in a fixed order."""
    found: dict[str, None] = {}
    for root in _roots():
        for file in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).parts):
            if not SKIPPED.intersection(file.relative_to(root).parts):
                for docstring in _docstrings(file):
                    text = " ".join(filter(_is_prose, re.split(r"\n\s*\n", docstring)))
                    text = " ".join(text.split())
                    if text:
                        found[text] = None
    return list(found)


def choose(
    pool: Iterable[tuple[int, str]],
    sizes: Iterable[int],
    cut: Callable[[str, int], str],
    rng: random.Random,
) -> list[str]:
    """For each size a document of at least that many tokens, cut to it; none is used twice.

    Args:
        pool: (number of tokens, text) of each document.
        sizes: wanted numbers of tokens.
        cut: (text, tokens) -> the text's beginning.
        rng: decides between documents that would do.
    """
    ordered = sorted(pool)
    texts: dict[int, str] = {}
    # the largest first, so that long documents are not spent on short texts
    wanted = sorted(enumerate(sizes), key=lambda pair: -pair[1])
    for index, size in wanted:
        first = bisect_left(ordered, (size,))
        if first == len(ordered):
            raise ValueError(f"no document of {size} tokens is left; the case asks for too many long texts")
        _, text = ordered.pop(rng.randrange(first, min(len(ordered), first + 400)))
        texts[index] = cut(text, size)
    return [texts[index] for index in range(len(texts))]


def joined(pool: Iterable[tuple[int, str]], longest: int) -> Iterator[tuple[int, str]]:
    """Neighbouring documents put together until they have at least `longest` tokens.

    Args:
        pool: (number of tokens, text) of each document.
        longest: tokens that are wanted.
    """
    size, parts = 0, []
    for tokens, text in pool:
        size, parts = size + tokens - SPECIAL_TOKENS, [*parts, text]
        if size >= longest:
            yield size + SPECIAL_TOKENS, " ".join(parts)
            size, parts = 0, []


def fingerprint(texts: list[str]) -> str:
    """sha256 of a list of texts."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _roots() -> Iterator[Path]:
    yield Path(sysconfig.get_path("stdlib"))
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(
                f"the corpus is made of docstrings of {name}, which is not installed here"
            )
        yield Path(spec.origin).parent


def _docstrings(file: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield inspect.cleandoc(docstring)


def _is_prose(paragraph: str) -> bool:
    """Whether words make up most of a paragraph; code, tables and doctests are left out."""
    if ">>>" in paragraph or len(WORD.findall(paragraph)) < 4:
        return False
    letters = sum(character.isalpha() or character.isspace() for character in paragraph)
    return letters > 0.8 * len(paragraph)
