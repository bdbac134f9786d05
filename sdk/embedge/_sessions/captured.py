"""One short text at a time on a GPU, replayed from CUDA graphs: the card starts no operator by itself.

Source: onnxruntime's documentation of `enable_cuda_graph` and `gpu_graph_id`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedge._sessions.on_devices import DeviceLane
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.session import Session
from embedge.errors import ParamsError
from embedge.types import FloatArray, IntArray

LENGTHS = tuple(range(8, 65, 8))
"""Padded lengths that are captured: a query has few words."""
_RUNS_UNTIL_CAPTURED = 3
"""onnxruntime captures at the second run of a length; kernels are loaded and memory is taken at the first."""


class _Length:
    """What one padded length is replayed with: inputs and outputs at fixed addresses of the device."""

    def __init__(
        self, session: Session, inputs: Sequence[str], outputs: Mapping[str, int], length: int
    ) -> None:
        ort = import_onnxruntime()
        device = session.device
        where = (device.kind, device.index)
        self.host = {name: np.zeros((1, length), dtype=np.int64) for name in inputs}
        self._inputs = {
            name: ort.OrtValue.ortvalue_from_numpy(array, *where) for name, array in self.host.items()
        }
        self._outputs = {
            name: ort.OrtValue.ortvalue_from_numpy(np.zeros((1, size), np.float32), *where)
            for name, size in outputs.items()
        }
        self._session = session
        self._binding = session.binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = ort.RunOptions()
        # captured graphs are told apart by it; -1 and 0 have meanings of their own
        self._options.add_run_config_entry("gpu_graph_id", str(length))

    def run(self, output: str) -> FloatArray:
        """Compute what `host` holds."""
        for name, value in self._inputs.items():
            value.update_inplace(self.host[name])
        self._session.run_bound(self._binding, self._options, next(iter(self.host.values())).shape)
        rows: FloatArray = self._outputs[output].numpy()
        return rows


class CapturedQueries:
    """A captured graph for each of some padded lengths.

    All are captured when this is made: nothing else in the process may take memory on a GPU meanwhile.

    Args:
        session: opened to capture; of a graph without branches, right-padded.
        inputs: names of its inputs.
        pad_token_id: fills what a text leaves.
        max_seq_len: of the model.

    Raises:
        ParamsError: the graph has no output with one row per text.
        SessionError: a graph cannot be captured.
    """

    def __init__(
        self, session: Session, *, inputs: Sequence[str], pad_token_id: int, max_seq_len: int
    ) -> None:
        self._outputs = outputs = session.row_outputs()
        if not outputs:
            raise ParamsError("cuda_graphs=True needs a model with one vector or row of scores per text")
        self._pad_token_id = pad_token_id
        self._lock = threading.Lock()
        self._lengths = {
            length: _Length(session, inputs, outputs, length) for length in LENGTHS if length <= max_seq_len
        }
        for each in self._lengths.values():
            each.host["attention_mask"][:] = 1
            for _ in range(_RUNS_UNTIL_CAPTURED):
                each.run(next(iter(outputs)))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The padded lengths."""
        return tuple(self._lengths)

    def run(self, output: str, feeds: Mapping[str, IntArray]) -> FloatArray | None:
        """Compute one output of one short text; None for anything else, or while another thread is here."""
        rows, seq_len = feeds["input_ids"].shape
        each = self._lengths.get(-(-seq_len // LENGTHS[0]) * LENGTHS[0])
        if rows != 1 or each is None or output not in self._outputs or not self._lock.acquire(blocking=False):
            return None
        try:
            for name, host in each.host.items():
                host[0, :seq_len] = feeds[name][0]
                host[0, seq_len:] = self._pad_token_id if name == "input_ids" else 0
            return each.run(output)
        finally:
            self._lock.release()


class QueryLane(DeviceLane):
    """A device's lane that replays what is captured, and runs all else.

    Args:
        session: see DeviceLane.
        retry_smaller_batches: see DeviceLane.
        captured: on the same device.
    """

    def __init__(self, session: Session, retry_smaller_batches: bool, captured: CapturedQueries) -> None:
        super().__init__(session, retry_smaller_batches)
        self._captured = captured

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """See DeviceLane.run."""
        rows = self._captured.run(output, feeds)
        return super().run(output, feeds) if rows is None else rows
