"""The batches of all large calls of a model take turns: so many at once, however many calls come."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from embedge._cancelling import check_call
from embedge._lifetime import ending, renew_after_fork

_LOOK_S = 0.1
"""How often who waits for a turn looks whether its call is to end: many may wait, and each look costs."""


class Turns:
    """Bounds the memory and the threads of calls that come at once.

    Args:
        at_once: batches.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self.forget_parent()
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._lock = threading.Lock()
        self._free = threading.Semaphore(self._at_once)
        self._calls = 0

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Around a batch: waits until it may run.

        Raises:
            Stopped, CallCancelledError, DeadlineError: the call is to end.
        """
        free = self._free
        while not free.acquire(timeout=_LOOK_S):
            check_call()
            if ending():  # those who have a turn may be threads that no longer run
                yield
                return
        try:
            yield
        finally:
            free.release()

    @contextlib.contextmanager
    def call(self, num_lanes: int) -> Iterator[int]:
        """Around a large call: its share of the lanes, all where it is alone and no fewer than one.

        A call that has one computes in the thread that made it.
        """
        with self._lock:
            others = self._calls
            self._calls += 1
        try:
            yield max(1, num_lanes - others)
        finally:
            with self._lock:
                self._calls -= 1
