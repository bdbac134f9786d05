"""How a call of many texts is split on a CPU: by rule, or as `embedge bench --save` measured it on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from embedge import store
from embedge._machine.cpu import cpu_name
from embedge._replacing import replace_whole
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge.errors import BundleError

BATCH_TOKENS = 512
"""Padded tokens per run that suit a core's caches on the machines that were measured (benchmarks/results).

Large models want no other: microseconds of one core for a token of an int8 graph, texts of 16, by tokens per run:

| layers | 64 | 128 | 256 | 512 | 1,024 | 2,048 |
|---|---|---|---|---|---|---|
| 6 of 384 | 84 | 80 | 78 | 78 | 79 | 83 |
| 12 of 768 | 558 | 531 | 513 | 507 | 522 | 537 |
"""
_FOLDER = ".tuning"


class Tuning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Workers that share the batches of a large call.

    Attributes:
        workers: how many batches run at once.
        threads_per_worker: threads inside each run.
        batch_tokens: padded tokens of a batch.
    """

    workers: int
    threads_per_worker: int = 1
    batch_tokens: int = BATCH_TOKENS


class TuningRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured tuning and what it holds for.

    Attributes:
        fingerprint, variant: the graph.
        cpu: the processor's name.
        onnxruntime: its version.
        threads: processors that were to be used.
        tuning: the fastest.
        texts_per_s: its speed.
    """

    fingerprint: str
    variant: str
    cpu: str
    onnxruntime: str
    threads: int
    tuning: Tuning
    texts_per_s: float


def default_tuning(threads: int) -> Tuning:
    """One worker of one thread per processor."""
    return Tuning(workers=threads)


def splits(threads: int) -> list[tuple[int, int]]:
    """Workers and threads of each that use all processors: one thread each first, one worker for all last."""
    return [(threads // each, each) for each in range(1, threads + 1) if threads % each == 0]


def longest_share(batch_tokens: Sequence[int], workers: int) -> float:
    """How long the last worker takes, as a multiple of the time in which all would end at once.

    Args:
        batch_tokens: padded tokens of the batches, in the order in which workers take them.
        workers: how many.
    """
    taken = [0] * workers
    for tokens in batch_tokens:
        taken[taken.index(min(taken))] += tokens
    return max(taken) * workers / max(1, sum(taken))


def find_tuning(fingerprint: str, variant: str, threads: int) -> tuple[Tuning, str]:
    """The tuning to use, and why.

    Args:
        fingerprint: of the bundle.
        variant: graph that runs.
        threads: processors to use.
    """
    default = default_tuning(threads)
    try:
        path = tuning_file(fingerprint, variant)
        data = path.read_bytes()
    except (OSError, BundleError):  # nothing was measured, or there is no store
        return default, "rule: one worker per processor"
    try:
        record = msgspec.json.decode(data, type=TuningRecord)
    except (ValueError, RecursionError) as error:
        return default, f"rule: {path} cannot be used ({error}); measure again with embedge bench --save"
    here = (threads, cpu_name(), str(import_onnxruntime().__version__))
    there = (record.threads, record.cpu, record.onnxruntime)
    if here != there:
        return default, f"rule: {path} holds for {_words(*there)}, and this is {_words(*here)}"
    return record.tuning, f"measured by embedge bench: {path}"


def save_tuning(record: TuningRecord) -> Path:
    """Write a record to the store, over an older one for the same graph; returns the file."""
    path = tuning_file(record.fingerprint, record.variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n", alone=False)
    return path


def tuning_file(fingerprint: str, variant: str) -> Path:
    """Where the store keeps the tuning of a graph.

    Raises:
        BundleError: there is no store.
    """
    return store.home() / _FOLDER / f"{fingerprint[:16]}-{variant}.json"


def _words(threads: int, cpu: str, onnxruntime: str) -> str:
    return f"{threads} threads of {cpu} with onnxruntime {onnxruntime}"
