"""A job from files to an output: chunk by chunk, each on disk before it is counted, so that any end leaves it whole."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from embedge._calls.options import CallOptions
from embedge._calls.resolve import prompt_of
from embedge._corpus.chunks import refuse_repeated, take_chunks
from embedge._corpus.compute import Answered, Asking, answer, tower_of
from embedge._corpus.inputs import STDIN, InputFile
from embedge._corpus.journal import Counts, State, check_same, commit, job_file, locked, read_state
from embedge._corpus.precision import Precision, find_ranges, needs_ranges, quantize
from embedge._corpus.records import Reading, Row, read_rows
from embedge._corpus.sidecar import Sidecar
from embedge._corpus.sinks import Growing, Rows, Sink, check_name, left_files, open_sink
from embedge._version import __version__
from embedge.errors import CorpusError
from embedge.model import EdgeModel
from embedge.types import FloatArray

CHUNK = 2048
"""Different texts of a chunk: enough to sort by length, and a few seconds of work."""

OnError: TypeAlias = Literal["stop", "skip"] | Path


class Job(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is to be done.

    Attributes:
        files: read in this order.
        reading: how.
        asking: what the model is asked.
        output: where the rows go.
        precision: how a component is stored.
        keep_texts: the texts are written beside the rows.
        on_error: what becomes of rows that cannot be used: "stop", "skip", or a file that tells of them.
        resume: go on with what an earlier job of the same output left.
        overwrite: replace an output, or an earlier job's.
        chunk: different texts that are computed and committed together.
    """

    files: tuple[InputFile, ...]
    reading: Reading
    asking: Asking
    output: Path
    precision: Precision = "float32"
    keep_texts: bool = True
    on_error: OnError = "stop"
    resume: bool = False
    overwrite: bool = False
    chunk: int = CHUNK


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a job did.

    Attributes:
        counts: of the whole output.
        resumed_at: rows of the input that an earlier job had done.
        duration_s: of this call.
    """

    counts: Counts
    resumed_at: int
    duration_s: float


def run(model: EdgeModel, job: Job, progress: Callable[[Counts], None] | None = None) -> Summary:
    """Do a job, or go on with it.

    Raises:
        CorpusError: an input, a row or the output is not what was expected.
        EmbedgeError: the model cannot answer.
        OSError: a file cannot be read or written; what was committed stays, and --resume goes on from there.
    """
    started = time.perf_counter()
    check_name(job.output)
    with locked(job.output):
        state = _begin(model, job)
        resumed_at = state.counts.read
        with contextlib.ExitStack() as stack:
            sink = open_sink(job.output, state.sizes)
            stack.callback(sink.close)
            rejects = None
            if isinstance(job.on_error, Path):
                rejects = Growing(job.on_error, state.sizes)
                stack.callback(rejects.stream.close)
            for answered in answers(model, job, skip=resumed_at):
                state = _write(answered, job, state, sink, rejects)
                if progress is not None:
                    progress(state.counts)
            sink.finish(msgspec.json.encode(_sidecar(model, job, state)))
            if rejects is not None:
                rejects.finish()
            job_file(job.output).unlink()
            sink.tidy()
    return Summary(counts=state.counts, resumed_at=resumed_at, duration_s=time.perf_counter() - started)


def answers(model: EdgeModel, job: Job, *, skip: int = 0) -> Iterator[Answered]:
    """Read and compute what a job asks, chunk by chunk.

    Args:
        model: the loaded model.
        job: its output is not used.
        skip: rows of the input to pass over.

    Raises:
        CorpusError: a row cannot be used, and `on_error` is "stop".
    """
    rows = read_rows(job.files, job.reading)
    if job.reading.id_column is not None:
        rows = refuse_repeated(rows)
    left = islice(rows, skip, None)
    chunks = take_chunks(_stopping(left) if job.on_error == "stop" else left, job.chunk)
    for answered in answer(model, chunks, job.asking, job.chunk):
        if job.on_error == "stop" and answered.rejected:
            _refuse(answered.rejected[0])
        yield answered


def _stopping(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if row.problem:
            _refuse(row)
        yield row


def _refuse(row: Row) -> None:
    raise CorpusError(
        f"{row.file}:{row.line}: {row.problem}. Mend the row, or pass --on-error skip or a file for such rows."
    )


def _begin(model: EdgeModel, job: Job) -> State:
    """The state to go on from; a new one where nothing is there."""
    if not _is_text(job.output.name):
        raise CorpusError(
            f"{str(job.output)!r} is no valid text; expected a name in UTF-8. Choose another -o."
        )
    settings = _settings(model, job)
    found = read_state(job.output)
    if job.resume and found is not None:
        check_same(found.settings, settings)
        return found
    if job.resume and job.output.exists():
        raise CorpusError(
            f"{job.output} is whole; expected an unfinished job to go on with. Pass --overwrite to redo it."
        )
    there = left_files(job.output)
    if not job.overwrite and (there or found is not None):
        unfinished = "the start of an unfinished job" if found is not None else "there already"
        how = "--resume to go on with it, or --overwrite" if found is not None else "--overwrite"
        raise CorpusError(f"{job.output} is {unfinished}; expected a new name. Pass {how}.")
    for file in there:
        if file != job.output:  # which stays until another takes its name
            file.unlink()
    state = State(settings=settings)
    commit(job.output, state)
    return state


def _settings(model: EdgeModel, job: Job) -> dict[str, str]:
    if job.resume and any(file.name == STDIN for file in job.files):
        raise CorpusError(
            "stdin cannot be read a second time; expected files to go on with. Pass --overwrite."
        )
    facts = {
        "embedge": __version__,
        "bundle": model.info.fingerprint,
        "variant": model.info.variant,
        "device": model.info.device,
        "precision": job.precision,
        "keep_texts": str(job.keep_texts),
        "on_error": "stop" if job.on_error == "stop" else "go on",
        "chunk": str(job.chunk),
        "format": job.output.suffix.lower(),
    }
    for part in (job.asking, job.reading):
        facts |= {name: str(value) for name, value in msgspec.structs.asdict(part).items()}
    facts["input files"] = str(len(job.files))
    for index, file in enumerate(job.files):
        facts[f"input {index}"] = f"{file.name} of {file.size} bytes, written at {file.modified_ns}"
    return facts


def _write(answered: Answered, job: Job, state: State, sink: Sink, rejects: Growing | None) -> State:
    """Write a chunk, put it on disk, and count it."""
    ranges = None if state.ranges is None else np.array(state.ranges, dtype=np.float32)
    clipped = 0
    if len(answered.rows):
        if ranges is None and needs_ranges(job.precision):
            ranges = find_ranges(answered.numbers)
        clipped = _clipped(answered.numbers, ranges)
        sink.append(_rows(answered, job, state.counts.written, ranges))
    if rejects is not None:
        for row in answered.rejected:
            told = {"file": row.file, "line": row.line, "reason": row.problem}
            rejects.stream.write(msgspec.json.encode(told) + b"\n")
    counts = state.counts + Counts(
        read=answered.num_read,
        written=len(answered.rows),
        rejected=len(answered.rejected),
        computed=len(answered.numbers),
        tokens=int(answered.tokens.sum()),
        cut=int((answered.cut[answered.which] > 0).sum()) if len(answered.rows) else 0,
        clipped=clipped,
    )
    sizes = sink.sync() | ({} if rejects is None else {rejects.target.name: rejects.size()})
    state = msgspec.structs.replace(
        state, counts=counts, sizes=sizes, ranges=None if ranges is None else ranges.tolist()
    )
    commit(job.output, state)
    return state


def _rows(answered: Answered, job: Job, first: int, ranges: FloatArray | None) -> Rows:
    stored = quantize(answered.numbers, job.precision, ranges)
    rows = answered.rows
    return Rows(
        numbers=stored[answered.which],
        identifiers=[
            first + index if row.identifier is None else row.identifier for index, row in enumerate(rows)
        ],
        texts=[row.text for row in rows] if job.keep_texts else None,
        pairs=[row.pair or "" for row in rows] if job.keep_texts and job.reading.pair_column else None,
    )


def _clipped(numbers: FloatArray, ranges: FloatArray | None) -> int:
    return 0 if ranges is None else int(((numbers < ranges[0]) | (numbers > ranges[1])).sum())


def _sidecar(model: EdgeModel, job: Job, state: State) -> Sidecar:
    asking, manifest = job.asking, model.manifest
    dimensions = _dimensions(model, asking)
    components = max(1, state.counts.computed * dimensions)
    return Sidecar(
        embedge=__version__,
        bundle=model.info.name,
        fingerprint=model.info.fingerprint,
        variant=model.info.variant,
        task=asking.task,
        dimensions=dimensions,
        normalized=asking.task == "embed"
        and (manifest.normalize if asking.normalize is None else asking.normalize),
        prompt=_prompt(model, asking),
        tower=tower_of(model, asking),
        long_text=asking.long_text,
        precision=job.precision,
        ranges=state.ranges,
        clipped=round(state.counts.clipped / components, 6),
        num_rows=state.counts.written,
        has_texts=job.keep_texts,
        labels=manifest.head.labels if asking.task == "classify" and manifest.head is not None else None,
        inputs=tuple(file.name for file in job.files),
    )


def _prompt(model: EdgeModel, asking: Asking) -> str:
    options = CallOptions(tower=tower_of(model, asking), prompt_name=asking.prompt_name, prompt=asking.prompt)
    return prompt_of(model.manifest, options)


def _dimensions(model: EdgeModel, asking: Asking) -> int:
    if asking.task == "score":
        return 1
    if asking.task == "classify":
        return len(model.manifest.head.labels) if model.manifest.head is not None else 1
    return asking.dimensions or model.manifest.dimensions or model.manifest.embedding_size or 0


def _is_text(name: str) -> bool:
    return name.encode("utf-8", "replace").decode() == name
