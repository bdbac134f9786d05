"""Sessions on the CPU: one for small calls, others for the workers of large ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from embedge._lifetime import renew_after_fork
from embedge._sessions.session import Lane
from embedge._sessions.tuning import Tuning, longest_share
from embedge.types import Profile

LARGE_CALL_BATCHES = 8
"""From here on a second session of a small graph pays for the time and memory that it takes.

Of one call, or of all smaller ones.
"""
_BYTES_PER_BATCH = 10 << 20
"""Weights that are copied in the time that workers gain in a batch: a graph of more than 80 MiB waits for more batches.

Batches after which workers have repaid their session's opening, of short texts and of passages, with onnxruntime 1.32
on an AMD EPYC (family 25, model 17) and an Intel Xeon with AMX; "-": they are no faster. Where other programs take
processors now and then, runs on all threads suffer more than workers, those of int8 most:

| layers | weights | EPYC, 2 threads | Xeon, 2 threads | Xeon, 8 threads |
|---|---|---|---|---|
| 6 of 384, int8 | 12 MB | 11, not measured | 11, 5 | 8, 6 |
| 12 of 384, int8 | 23 MB | 26, not measured | 5, 9 | 9, 6 |
| 6 of 384, fp32 | 43 MB | 75, 21 | 8, 7 | 14, 15 |
| 12 of 384, fp32 | 85 MB | not measured | 5, 6 | 21, 11 |
| 12 of 768, int8 | 87 MB | -, 26 | 7, 15 | -, 8 |
| 12 of 768, fp32 | 342 MB | -, 87 | 11 and -, 46 | 41 and 182 |
"""


_UNEVEN = 1.2
"""Time of the last worker by that of all at their ends at once, from which on one run on all threads is as fast."""


_CROWDED_RUNS = 64
"""From here on small calls that come at once get the second session, too."""


class CpuSessions:
    """The sessions of one graph on the CPU, and which of them share a call.

    One run on all threads for calls of one batch, workers for others. Workers of one thread each mostly get more out
    of the cores than one run that is split between them, because no core waits for another at the end of an operator
    (benchmarks/results). They need a session of their own, which is opened once there were batches enough;
    workers of several threads need one each, because the runs of a session share its threads.

    Args:
        open_session: opens a session whose runs use that many threads.
        threads: processors to use.
        profile: "latency" has both, "throughput" and "background" the workers only.
        tuning: the workers.
        copied_bytes: weights that each session has of its own.
    """

    def __init__(
        self,
        open_session: Callable[[int], Lane],
        *,
        threads: int,
        profile: Profile,
        tuning: Tuning,
        copied_bytes: int = 0,
    ) -> None:
        self._open = open_session
        self._lock = threading.Lock()
        self._tuning = tuning
        self._repaid_batches = max(LARGE_CALL_BATCHES, copied_bytes // _BYTES_PER_BATCH)
        self._large: list[Lane] = []
        self._crowded = 0
        self._shared_batches = 0
        self.placement: dict[str, int] = {}
        self.lost_devices: list[str] = []
        small_threads = threads if profile == "latency" else tuning.threads_per_worker
        self._small = self._open(small_threads)
        if small_threads == tuning.threads_per_worker and (small_threads == 1 or tuning.workers == 1):
            self._large = [self._small] * tuning.workers
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._lock = threading.Lock()

    def lanes(self, batch_tokens: Sequence[int] | None) -> Sequence[Lane]:
        """A session for each thread that works on a call.

        Args:
            batch_tokens: padded tokens of its batches, in the order in which they are dealt; None where it is large and
                they are not known yet.
        """
        if self._small in self._large:
            return self._large
        if batch_tokens is not None and not self._workers_pay(batch_tokens):
            return [self._small]
        with self._lock:
            if not self._large:
                each = self._tuning.threads_per_worker
                if each == 1:
                    self._large = [self._open(1)] * self._tuning.workers
                else:
                    self._large = [self._open(each) for _ in range(self._tuning.workers)]
        return self._large

    @property
    def num_workers(self) -> int:
        """How many batches may run at once without taking processors from one another."""
        return self._tuning.workers

    def worker(self, index: int) -> Lane:
        """A lane for one of several small calls that come at once: of one thread each, once that is worth a session."""
        if not self._large:
            self._crowded += 1
            if self._crowded < _CROWDED_RUNS:
                return self._small
        return self.lanes(None)[index]

    def _workers_pay(self, batch_tokens: Sequence[int]) -> bool:
        """Whether workers are faster than one run on all threads, and their session is there or worth its time."""
        if len(batch_tokens) < 2 or longest_share(batch_tokens, self.num_workers) > _UNEVEN:
            return False
        if not self._large:
            # calls at once may count one another's batches twice or not at all
            self._shared_batches += len(batch_tokens)
        return bool(self._large) or self._shared_batches >= self._repaid_batches

    def survives(self, lane: Lane, error: BaseException) -> bool:  # noqa: ARG002
        """Whether other lanes can do the batch that failed: they are the same processor."""
        return False
