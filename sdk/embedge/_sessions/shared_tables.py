"""Tables that all sessions of a graph on the CPU read at the same place."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from embedge._lifetime import renew_after_fork


class SharedTables:
    """One copy of each table of a graph, which its sessions are given as an input of every run."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.forget_parent()
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._lock = threading.Lock()

    def kept(self) -> dict[str, np.ndarray[Any, Any]]:
        """The tables that there are, by name."""
        with self._lock:
            return dict(self._arrays)

    def keep(self, tables: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """All tables, with those that a session has read; the first copy of each stays."""
        with self._lock:
            self._arrays = {**tables, **self._arrays}
            return dict(self._arrays)
