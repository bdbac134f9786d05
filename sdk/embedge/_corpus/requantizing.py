"""Saved rows are stored once more in fewer bytes, with what is known of each, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from embedge._corpus.journal import locked
from embedge._corpus.precision import PRECISIONS, Precision, needs_ranges, quantize
from embedge._corpus.searching import Kept
from embedge._corpus.sinks import Rows, check_name, left_files, open_sink
from embedge._corpus.stored import Opened
from embedge.errors import CorpusError
from embedge.types import FloatArray

_BLOCK = 16384


def store_again(opened: Opened, output: Path, precision: Precision, *, overwrite: bool) -> None:
    """Write an output's rows to another.

    Raises:
        CorpusError: rows of bits become numbers, or the output is not what was expected.
        MissingExtraError: Parquet, and pyarrow is not installed.
        OSError: a file cannot be written.
    """
    if precision not in PRECISIONS:
        raise CorpusError(f"precision={precision!r} is not known; expected one of {', '.join(PRECISIONS)}")
    facts = opened.sidecar
    bits = ("binary", "ubinary")
    if facts.task != "embed" or (facts.precision in bits and precision not in bits):
        what = f"answers of {facts.task}" if facts.task != "embed" else "bits, whose numbers are gone"
        raise CorpusError(f"the rows are {what}; expected embeddings that {precision} can be made of")
    check_name(output)
    with locked(output):
        there = left_files(output)
        if there and not overwrite:
            raise CorpusError(f"{output} is there already; expected a new name. Pass --overwrite.")
        for file in there:
            if file != output:  # which stays until another takes its name
                file.unlink()
        kept = Kept(rows=opened.rows, sidecar=facts)
        ranges = _find_ranges(kept) if needs_ranges(precision) else None
        sink = open_sink(output, {})
        try:
            for start, numbers in _blocks(kept):
                entries = opened.entries[start : start + len(numbers)]
                sink.append(
                    Rows(
                        numbers=quantize(numbers, precision, ranges),
                        identifiers=[entry.id for entry in entries],
                        texts=[entry.text or "" for entry in entries] if facts.has_texts else None,
                        pairs=None,
                    )
                )
            sink.sync()
            told = None if ranges is None else ranges.tolist()
            sink.finish(
                msgspec.json.encode(
                    msgspec.structs.replace(facts, precision=precision, ranges=told, clipped=0.0)
                )
            )
        finally:
            sink.close()
        sink.tidy()


def _blocks(kept: Kept) -> Iterator[tuple[int, FloatArray]]:
    for start in range(0, len(kept.rows), _BLOCK):
        yield start, kept.numbers(slice(start, start + _BLOCK))


def _find_ranges(kept: Kept) -> FloatArray:
    """Smallest and largest value of each component, of all rows."""
    ends = [np.stack([numbers.min(0), numbers.max(0)]) for _, numbers in _blocks(kept)]
    if not ends:
        return np.zeros((2, kept.sidecar.dimensions), dtype=np.float32)
    every = np.stack(ends)
    return np.stack([every[:, 0].min(0), every[:, 1].max(0)]).astype(np.float32)
