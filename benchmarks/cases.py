"""What is measured: the texts of each case, the same for every subject.

The texts are pieces of the standard library's docstrings, cut to lengths drawn from a fixed seed, so they need no
download. They depend on the Python version; their hash stands in every result.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import random
from dataclasses import dataclass
from pathlib import Path

SEED = 0
MODULES = "argparse asyncio collections decimal email logging mailbox pathlib pickle socket sqlite3 subprocess tarfile"


@dataclass(frozen=True)
class Case:
    """One workload.

    Attributes:
        texts: how many texts.
        median_words: of the log-normal distribution of their lengths.
        spread: its sigma.
        what: description for tables.
        kind: "bulk" embeds all texts in one call, "query" one at a time, "start" one text in a fresh process.
    """

    texts: int
    median_words: float
    spread: float
    what: str
    kind: str = "bulk"


CASES = {
    "start": Case(1, 12, 0.0, "import to first vector, fresh process", "start"),
    "query": Case(200, 11, 0.2, "one text of about 16 tokens at a time", "query"),
    "short": Case(4000, 10, 0.4, "4,000 short texts in one call"),
    "passages": Case(800, 45, 0.6, "800 passages, long tail to the limit of 256 tokens"),
}


def build_texts(name: str) -> list[str]:
    """The texts of a case."""
    words: list[str] = []
    for module_name in MODULES.split():
        module = __import__(module_name)
        for _, member in sorted(inspect.getmembers(module), key=lambda pair: pair[0]):
            words += (inspect.getdoc(member) or "").split()
    case, rng = CASES[name], random.Random(f"{SEED} {name}")
    texts = []
    for _ in range(case.texts):
        length = max(1, min(400, round(rng.lognormvariate(0, case.spread) * case.median_words)))
        start = rng.randrange(len(words) - length)
        texts.append(" ".join(words[start : start + length]))
    return texts


def write_texts(name: str, folder: Path) -> tuple[Path, str]:
    """Write a case's texts where children of other environments can read them; with their sha256."""
    data = json.dumps(build_texts(name)).encode()
    path = folder / f"{name}.json"
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()
