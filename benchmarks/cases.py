"""What is measured: the texts of each case, the same for every subject, and the models.

Texts are drawn by their number of tokens (special tokens included) under all-MiniLM-L6-v2's tokenizer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.corpus import choose, documents, fingerprint

SEED = 0
MAX_TOKENS = 256
SPECIAL_TOKENS = 2
CORPUS_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workload.

    Attributes:
        kind: "start": one text in a fresh process; "query": one text at a time; "bulk": all texts in one call;
            "rerank": the first texts are queries, the others documents, and each query is scored with all of its own.
        texts: how many.
        median_tokens, spread: of the log-normal distribution of their numbers of tokens.
        longest: where that distribution is cut; above MAX_TOKENS, so that some texts are truncated.
        what: for tables.
    """

    kind: Literal["start", "query", "bulk", "rerank"]
    texts: int
    median_tokens: float
    spread: float = 0.0
    longest: int = 320
    what: str


CASES = {
    "start": Case(
        kind="start", texts=1, median_tokens=16, what="fresh process: import, load, first vector (16 tokens)"
    ),
    "query": Case(
        kind="query", texts=220, median_tokens=16, spread=0.15, what="one text of about 16 tokens at a time"
    ),
    "short": Case(
        kind="bulk", texts=4000, median_tokens=15, spread=0.4, what="4,000 short texts in one call"
    ),
    "passages": Case(
        kind="bulk",
        texts=800,
        median_tokens=68,
        spread=0.68,
        what="800 passages in one call, long tail to 256 tokens",
    ),
    "passages2k": Case(
        kind="bulk",
        texts=2000,
        median_tokens=68,
        spread=0.68,
        what="2,000 passages in one call, long tail to 256 tokens",
    ),
    "long": Case(
        kind="bulk",
        texts=200,
        median_tokens=300,
        what="200 documents in one call, 256 tokens each after truncation",
    ),
}
WARM_UP_QUERIES = 20
"""Texts of "query" that are embedded before the clock runs."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A case's texts, on disk for the children, and what is known about them.

    Attributes:
        num_tokens: after truncation, special tokens included.
        own_length: of the text that a token is in, mean over the tokens; attention's work follows from it.
        longest: in tokens.
    """

    file: Path
    sha256: str
    num_texts: int
    num_tokens: int
    own_length: float
    longest: int

    def summary(self) -> dict:
        """What results state about the texts."""
        return {
            "sha256": self.sha256,
            "texts": self.num_texts,
            "tokens": self.num_tokens,
            "tokens_mean": round(self.num_tokens / self.num_texts, 1),
            "tokens_max": self.longest,
            "own_length": round(self.own_length, 1),
        }


def sizes(name: str) -> list[int]:
    """Numbers of tokens to draw for a case, special tokens included."""
    case, rng = CASES[name], random.Random(f"{SEED} sizes {name}")
    return [
        max(5, min(case.longest, round(case.median_tokens * rng.lognormvariate(0.0, case.spread))))
        for _ in range(case.texts)
    ]


def prepare_texts(names: list[str], tokenizer_file: Path, cache: Path) -> dict[str, Texts]:
    """Build the texts of the named cases once, write them to `cache`, and count their tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cache.mkdir(parents=True, exist_ok=True)
    pool: list[tuple[int, str]] = []
    prepared = {}
    for name in names:
        file = cache / f"texts-{CORPUS_FORMAT}-{SEED}-{name}.json"
        if not file.is_file():
            if not pool:
                found = documents()
                encodings = tokenizer.encode_batch_fast(found)
                pool = [(len(encoding), text) for encoding, text in zip(encodings, found, strict=True)]
            rng = random.Random(f"{SEED} texts {name}")
            file.write_text(json.dumps(choose(pool, sizes(name), _cutter(tokenizer), rng)))
        texts = json.loads(file.read_text())
        lengths = [min(MAX_TOKENS, len(e)) for e in tokenizer.encode_batch_fast(texts)]
        prepared[name] = Texts(
            file=file,
            sha256=fingerprint(texts),
            num_texts=len(texts),
            num_tokens=sum(lengths),
            own_length=sum(length * length for length in lengths) / sum(lengths),
            longest=max(lengths),
        )
    return prepared


def _cutter(tokenizer) -> Callable[[str, int], str]:
    def cut(text: str, size: int) -> str:
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        return text[: offsets[size - SPECIAL_TOKENS - 1][1]]

    return cut
