"""Which generation of the libraries is installed: what tests go by where they differ."""

from __future__ import annotations

from importlib import metadata


def generation(package: str) -> int:
    """The first number of an installed package's version."""
    return int(metadata.version(package).partition(".")[0])


TRANSFORMERS_5 = generation("transformers") >= 5
SENTENCE_TRANSFORMERS_6 = generation("sentence-transformers") >= 6
