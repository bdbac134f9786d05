"""Saved rows are stored once more, some of them or in fewer bytes, with what is known of each, block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge._corpus.journal import locked, refuse_replacing
from embedge._corpus.kept import Kept, in_blocks
from embedge._corpus.precision import PRECISIONS, Precision, find_ranges, is_bits, needs_ranges, quantize
from embedge._corpus.sinks import Rows, check_name, left_files, open_sink
from embedge._corpus.stored import Opened
from embedge.errors import CorpusError
from embedge.types import FloatArray, IntArray


def store_again(
    opened: Opened,
    output: Path,
    precision: Precision,
    *,
    overwrite: bool,
    places: IntArray | None = None,
) -> None:
    """Write an output's rows to another.

    Args:
        opened: the output.
        output: where they go.
        precision: how a component is stored.
        overwrite: replace what is there.
        places: positions of the rows that are written; None for all.

    Raises:
        CorpusError: rows of bits become numbers, or the output is not what was expected.
        MissingExtraError: Parquet, and pyarrow is not installed.
        OSError: a file cannot be written.
    """
    if precision not in PRECISIONS:
        raise CorpusError(f"precision={precision!r} is not known; expected one of {', '.join(PRECISIONS)}")
    facts = opened.sidecar
    if facts.task != "embed" or (is_bits(facts.precision) and not is_bits(precision)):
        what = f"answers of {facts.task}" if facts.task != "embed" else "bits, whose numbers are gone"
        raise CorpusError(f"the rows are {what}; expected embeddings that {precision} can be made of")
    check_name(output)
    with locked(output):
        there = left_files(output)
        if there and not overwrite:
            raise refuse_replacing(output)
        for file in there:
            if file != output:  # which stays until another takes its name
                file.unlink()
        kept = opened.kept
        which = np.arange(len(kept.rows)) if places is None else places
        is_same = precision == facts.precision
        ranges = None if is_same or not needs_ranges(precision) else _find_ranges(kept, which)
        sink = open_sink(output, {})
        try:
            for some in in_blocks(which):
                entries = [opened.entries[int(place)] for place in some]
                sink.append(
                    Rows(
                        numbers=np.asarray(kept.rows[some])
                        if is_same
                        else quantize(kept.numbers(some), precision, ranges),
                        identifiers=[entry.id for entry in entries],
                        texts=[entry.text or "" for entry in entries] if facts.has_texts else None,
                        pairs=None,
                    )
                )
            sink.sync()
            changes: dict[str, Any] = {"num_rows": len(which)}
            if not is_same:
                told = None if ranges is None else ranges.tolist()
                changes |= {"precision": precision, "ranges": told, "clipped": 0.0}
            sink.finish(msgspec.json.encode(msgspec.structs.replace(facts, **changes)))
        finally:
            sink.close()
        sink.tidy()


def _find_ranges(kept: Kept, places: IntArray) -> FloatArray:
    """Smallest and largest value of each component."""
    ends = [find_ranges(kept.numbers(some)) for some in in_blocks(places)]
    if not ends:
        return np.zeros((2, kept.sidecar.dimensions), dtype=np.float32)
    every = np.stack(ends)
    return np.stack([every[:, 0].min(0), every[:, 1].max(0)]).astype(np.float32)
