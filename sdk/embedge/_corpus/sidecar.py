"""What is said beside rows about the rows: which bundle made them, how, and how they are stored."""

from __future__ import annotations

import msgspec

from embedge._corpus.precision import Precision
from embedge.types import Task

SCHEMA = 1


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of an output.

    Attributes:
        schema: of this file.
        embedge: version that wrote it.
        bundle: name of the bundle.
        fingerprint: of the bundle.
        variant: graph that computed the rows.
        task: what the rows are.
        dimensions: components of a row.
        normalized: rows have length 1.
        prompt: text before each of the texts.
        long_text: what became of texts beyond the model's limit.
        precision: how a component is stored.
        ranges: smallest and largest value of each component, where components are stored in steps.
        clipped: share of components that were beyond these ranges.
        num_rows: rows of the output.
        has_texts: the texts are kept beside the rows.
        labels: names of the components, where they have some.
        inputs: names of the files that were read.
        tower: of a model that embeds queries and documents apart, which tower made the rows.
    """

    schema: int = SCHEMA
    embedge: str
    bundle: str
    fingerprint: str
    variant: str
    task: Task
    dimensions: int
    normalized: bool
    prompt: str
    long_text: str
    precision: Precision
    ranges: list[list[float]] | None = None
    clipped: float = 0.0
    num_rows: int
    has_texts: bool
    labels: tuple[str, ...] | None = None
    inputs: tuple[str, ...] = ()
    tower: str | None = None
