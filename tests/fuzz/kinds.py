"""What can be fuzzed, by name."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
from tests.fuzz.bundles import Flips, Manifests, Tokenizers
from tests.fuzz.calls import PROMPTS_PER_CALL, Parameters, Prompts
from tests.fuzz.graphs import Graphs


class Cases(Protocol):
    """Cases of one kind, each made from its number and a seeded generator."""

    def run(self, index: int, rng: random.Random) -> None:
        """One case: ends without a word where it is answered, and in one of our errors where it is refused."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What can be fuzzed.

    Attributes:
        make: its cases, in an empty folder.
        count: how many the long form runs; None: all there are.
        short: how many the short form runs.
        per_case: things that a case tries.
        what: they are called.
    """

    make: Callable[[Path], Cases]
    count: int | None
    short: int
    per_case: int = 1
    what: str


KINDS = {
    "manifests": Kind(make=Manifests, count=20_000, short=60, what="changed manifests"),
    "tokenizers": Kind(make=Tokenizers, count=5_000, short=60, what="changed tokenizers"),
    "graphs": Kind(make=Graphs, count=5_000, short=60, what="changed graphs"),
    "prompts": Kind(make=Prompts, count=200_000, short=800, per_case=PROMPTS_PER_CALL, what="prompts"),
    "parameters": Kind(make=Parameters, count=100_000, short=300, what="sets of parameters"),
    "flips": Kind(make=Flips, count=None, short=60, what="turned bits of a bundle's files"),
}
