"""What is measured: the texts of each case, the same for every subject, and the models.

Texts are drawn by their number of tokens (special tokens included) under all-MiniLM-L6-v2's tokenizer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.corpus import SPECIAL_TOKENS, choose, documents, fingerprint, joined

SEED = 0
CORPUS_FORMAT = 2
LONGEST_DOCUMENTS = 1024
"""Tokens; longer texts are neighbouring documents put together."""
Kind = Literal["start", "query", "bulk", "rerank"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workload.

    Attributes:
        kind: "start": one text in a fresh process; "query": one text at a time; "bulk": all texts in one call;
            "rerank": the first texts are queries, the others their documents, an equal number each; one query and
            its documents per call.
        texts: how many; for "rerank" documents in all.
        queries: for "rerank".
        median_tokens, spread: of the log-normal distribution of their numbers of tokens.
        longest: where that distribution is cut; above max_tokens where some texts shall be truncated.
        max_tokens: to which every system truncates.
        what: for tables.
    """

    kind: Kind
    texts: int
    queries: int = 0
    median_tokens: float
    spread: float = 0.0
    longest: int = 320
    max_tokens: int = 256
    what: str

    def scaled(self, share: float) -> int:
        """Texts that a model is asked which takes `share` of them where there are many."""
        if self.kind == "bulk":
            return max(20, round(self.texts * share))
        if self.kind == "rerank":
            return self.queries * max(2, round(self.texts * share / self.queries))
        return self.texts


CASES = {
    "start": Case(
        kind="start", texts=1, median_tokens=16, what="fresh process: import, load, first vector (16 tokens)"
    ),
    "query": Case(
        kind="query", texts=220, median_tokens=16, spread=0.15, what="one text of about 16 tokens at a time"
    ),
    "passages": Case(
        kind="bulk",
        texts=2000,
        median_tokens=68,
        spread=0.68,
        what="passages in one call, long tail to 256 tokens",
    ),
    "short": Case(kind="bulk", texts=4000, median_tokens=15, spread=0.4, what="short texts in one call"),
    "long": Case(
        kind="bulk",
        texts=200,
        median_tokens=300,
        what="documents in one call, 256 tokens each after truncation",
    ),
    "rerank": Case(
        kind="rerank",
        texts=1000,
        queries=20,
        median_tokens=60,
        spread=0.4,
        longest=200,
        what="20 queries, each scored with 50 documents in one call",
    ),
    "long512": Case(
        kind="bulk",
        texts=200,
        median_tokens=600,
        longest=640,
        max_tokens=512,
        what="documents in one call, 512 tokens each after truncation",
    ),
    "long2048": Case(
        kind="bulk",
        texts=200,
        median_tokens=2400,
        longest=2560,
        max_tokens=2048,
        what="documents in one call, 2,048 tokens each after truncation",
    ),
}
"""In the order of tables."""
QUERY_TOKENS = (8, 16)
"""Of the queries of "rerank", at least and at most."""
WARM_UP_QUERIES = 20
"""Texts of "query" that are embedded before the clock runs."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A case's texts, on disk for the children, and what is known about them.

    Attributes:
        num_texts: pairs, for "rerank".
        num_tokens: after truncation, special tokens included.
        own_length: of the text that a token is in, mean over the tokens; attention's work follows from it.
        longest: in tokens.
    """

    case: str
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
    """Numbers of tokens to draw for a case, special tokens included; queries first."""
    case, rng = CASES[name], random.Random(f"{SEED} sizes {name}")
    drawn = [
        max(5, min(case.longest, round(case.median_tokens * rng.lognormvariate(0.0, case.spread))))
        for _ in range(case.texts)
    ]
    return [rng.randint(*QUERY_TOKENS) for _ in range(case.queries)] + drawn


def prepare_texts(name: str, tokenizer_file: Path, cache: Path, share: float = 1.0) -> Texts:
    """Build a case's texts once, write those that a model is asked to `cache`, and count their tokens.

    Args:
        name: in CASES.
        tokenizer_file: that counts.
        cache: folder for texts; it may exist.
        share: of the case's texts, the first ones.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cache.mkdir(parents=True, exist_ok=True)
    case = CASES[name]
    file = cache / f"texts-{CORPUS_FORMAT}-{SEED}-{name}.json"
    if not file.is_file():
        rng = random.Random(f"{SEED} texts {name}")
        found = pool(tokenizer, cache)
        if case.longest > LONGEST_DOCUMENTS:
            found = list(joined(found, case.longest))
        found = choose(found, sizes(name), cutter(tokenizer), rng)
        file.write_text(json.dumps(found))
    texts = json.loads(file.read_text())
    if case.scaled(share) < case.texts:
        texts = texts[: case.queries + case.scaled(share)]
        file = file.with_name(f"{file.stem}-{len(texts)}.json")
        file.write_text(json.dumps(texts))
    asked = list(pairs(texts, case.queries)) if case.queries else texts
    lengths = [min(case.max_tokens, len(e)) for e in tokenizer.encode_batch_fast(asked)]
    return Texts(
        case=name,
        file=file,
        sha256=fingerprint(texts),
        num_texts=len(asked),
        num_tokens=sum(lengths),
        own_length=sum(length * length for length in lengths) / sum(lengths),
        longest=max(lengths),
    )


def pairs(texts: list[str], queries: int) -> Iterator[tuple[str, str]]:
    """Each query with its own documents: the first `queries` texts ask, the others are dealt in equal runs."""
    documents = (len(texts) - queries) // queries
    for number in range(queries):
        first = queries + number * documents
        for document in texts[first : first + documents]:
            yield texts[number], document


def pool(tokenizer, cache: Path) -> list[tuple[int, str]]:
    """(tokens, text) of each document of the corpus, counted once."""
    file = cache / f"pool-{CORPUS_FORMAT}.json"
    if not file.is_file():
        found = documents()
        encodings = tokenizer.encode_batch_fast(found)
        file.write_text(json.dumps([(len(e), text) for e, text in zip(encodings, found, strict=True)]))
    return [(size, text) for size, text in json.loads(file.read_text())]


def cutter(tokenizer) -> Callable[[str, int], str]:
    """(text, tokens) -> its beginning of so many tokens, special tokens included."""

    def cut(text: str, size: int) -> str:
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        return text[: offsets[size - SPECIAL_TOKENS - 1][1]]

    return cut
