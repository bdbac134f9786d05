"""Sessions on the CPU: one for small calls, others for the workers of large ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from embedge._lifetime import renew_after_fork
from embedge._sessions.session import Lane
from embedge._sessions.tuning import Tuning
from embedge.types import Profile

LARGE_CALL_BATCHES = 8
"""From here on a second session pays for the time and memory that it takes."""


_CROWDED_RUNS = 64
"""From here on small calls that come at once get the second session, too."""


class CpuSessions:
    """The sessions of one graph on the CPU, and which of them share a call.

    One run on all threads for small calls, workers for large ones. Workers of one thread each mostly get more out
    of the cores than one run that is split between them, because no core waits for another at the end of an operator
    (benchmarks/results). They need a session of their own, which is opened at the first call that is large enough;
    workers of several threads need one each, because the runs of a session share its threads.

    Args:
        open_session: opens a session whose runs use that many threads.
        threads: processors to use.
        profile: "latency" has both, "throughput" and "background" the workers only.
        tuning: the workers.
    """

    def __init__(
        self, open_session: Callable[[int], Lane], *, threads: int, profile: Profile, tuning: Tuning
    ) -> None:
        self._open = open_session
        self._lock = threading.Lock()
        self._tuning = tuning
        self._large: list[Lane] = []
        self._crowded = 0
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

    def lanes(self, num_batches: int) -> Sequence[Lane]:
        """A session for each thread that works on a call of so many batches."""
        if num_batches < LARGE_CALL_BATCHES and self._small not in self._large:
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
        return self.lanes(LARGE_CALL_BATCHES)[index]

    def survives(self, lane: Lane, error: BaseException) -> bool:  # noqa: ARG002
        """Whether other lanes can do the batch that failed: they are the same processor."""
        return False
