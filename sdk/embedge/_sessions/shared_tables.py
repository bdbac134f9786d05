"""Tables that all sessions of a graph on the CPU read at the same place.

onnxruntime takes an initializer that it is given by `add_initializer` as it is, where another session may have it, too.
It would not rearrange such a weight for products, so that only tables of which rows are looked up are given so: those
of a model's words, which are half of a small model and most of a multilingual one.

Source: onnxruntime's `SessionOptions.add_initializer`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from embedge._contents.graphs import Weight
from embedge._lifetime import renew_after_fork
from embedge._sessions.devices import Device
from embedge._sessions.onnxruntime import import_onnxruntime


class SharedTables:
    """One copy of each table; it has to live as long as the sessions that were given it.

    Args:
        device: the CPU.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._values: dict[str, Any] = {}
        self.forget_parent()
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """See Forkable."""
        self._lock = threading.Lock()

    def values(self, weights: Sequence[Weight]) -> dict[str, Any]:
        """See Shared."""
        value_of = import_onnxruntime().OrtValue.ortvalue_from_numpy
        tables = [weight for weight in weights if weight.apart and weight.onnx_type is None]
        with self._lock:
            for table in tables:
                if table.name not in self._values:
                    # it refers to the array, and to its memory
                    self._values[table.name] = value_of(table.array)
            return {table.name: self._values[table.name] for table in tables}
