"""Passages for the GPU: cut from the documents of benchmarks.corpus, which the standard library and numpy hold."""

from __future__ import annotations

import json
import random
from pathlib import Path


def documents(file: Path) -> list[str]:
    """The documents, read from `file` where it exists, else gathered and written to it."""
    if file.is_file():
        return json.loads(file.read_text())
    from benchmarks.corpus import documents as gather

    found = gather()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))
    return found


def passages(pool: list[str], count: int, mean_words: float, seed: int = 0) -> list[str]:
    """Consecutive words from random places, of log-normal number."""
    words = [word for document in pool for word in document.split()]
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        size = max(3, min(300, round(mean_words * rng.lognormvariate(-0.125, 0.5))))
        start = rng.randrange(len(words) - size)
        texts.append(" ".join(words[start : start + size]))
    return texts
