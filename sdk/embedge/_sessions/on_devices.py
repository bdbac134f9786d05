"""Sessions on accelerators: one per device, batches dealt from one queue, batches that do not fit cut smaller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from embedge._log import warning
from embedge._sessions.devices import Device
from embedge._sessions.session import Lane, Session
from embedge.errors import DeviceMemoryError, SessionError

_BATCHES_IN_FLIGHT = 6
"""Thousand texts/s of BERT-base on an H100: 27.9 with two, 31.0 with six; on two of them 53 with four, 56 with six.

Inputs and outputs bound on the device, or copied through pinned memory, bring nothing: 31.4 batches of 65,536 tokens a
second as they are, 31.1 and 30.6 so."""
_BATCH_TOKENS = 65536
"""Padded tokens; thousand texts/s there: 28.3 with 16,384, 29.9 with 32,768, 31.6 with 65,536."""
_ELEMENTS = 2**31
"""Kernels count a batch's elements in 32 bits; beyond that they break the whole process."""
_WIDEST_LAYER = 8
_SCORES = 3
"""Copies of attention's scores where it is no single operator: scaled, masked, and their softmax."""
_BYTES = 4
_MEMORY_SHARE = 0.5


class CudaLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large a batch on a GPU may be.

    Attributes:
        tokens: padded tokens of a batch, where the caller asks for none.
        most_tokens: more are refused.
        square: limit on rows times the square of the longest; None where attention works in blocks.
    """

    tokens: int
    most_tokens: int
    square: int | None


def cuda_limits(hidden_size: int, score_heads: int | None, memory_bytes: int | None) -> CudaLimits:
    """Batches that fill a GPU, and fit into half of its memory with all that are in flight.

    Args:
        hidden_size: of the graph.
        score_heads: heads whose scores a run holds at once, if any.
        memory_bytes: of the smallest device; None where it is not known.
    """
    elements = _ELEMENTS
    if memory_bytes is not None:
        elements = min(elements, int(_MEMORY_SHARE * memory_bytes) // (_BATCHES_IN_FLIGHT * _BYTES))
    return CudaLimits(
        tokens=max(1, min(_BATCH_TOKENS, elements // (_WIDEST_LAYER * hidden_size))),
        most_tokens=_ELEMENTS // (_WIDEST_LAYER * hidden_size),
        square=None if score_heads is None else max(1, elements // (_SCORES * score_heads)),
    )


class DeviceLane:
    """One of the batches in flight on a device.

    Args:
        session: shared with the device's other lanes.
        retry_smaller_batches: cut a batch that does not fit into halves, and those again.
    """

    def __init__(self, session: Session, retry_smaller_batches: bool) -> None:
        self._session = session
        self._retry = retry_smaller_batches

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._session.device

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """Compute one output.

        Raises:
            DeviceMemoryError: the batch does not fit, or even one text of it does not where halves are tried.
            SessionError: onnxruntime failed otherwise.
        """
        try:
            return self._session.run(output, feeds)
        except DeviceMemoryError as error:
            count = len(feeds["input_ids"])
            if not self._retry or count == 1:
                raise
            warning("%s; it is run as two halves", error)
        half = (count + 1) // 2
        parts = [
            self.run(output, {name: array[rows] for name, array in feeds.items()})
            for rows in (slice(0, half), slice(half, count))
        ]
        return np.concatenate(parts)


class DeviceSessions:
    """A session on each device, with several batches in flight on each: some are copied while another is computed.

    Args:
        open_session: opens a session on a device.
        devices: where to run.
        retry_smaller_batches: see EdgeModel.
        query_lane: makes the lane of the first device for a call of one batch; None: as all others.

    Attributes:
        placement: the first session's.
        lost_devices: names of the devices that failed.
    """

    def __init__(
        self,
        open_session: Callable[[Device], Session],
        *,
        devices: Sequence[Device],
        retry_smaller_batches: bool = False,
        query_lane: Callable[[Session, bool], DeviceLane] | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._sessions = [open_session(device) for device in devices]
        self._retry = retry_smaller_batches
        self._query_lane = query_lane
        self._query_session = self._sessions[0]
        self.placement: dict[str, int] = getattr(self._sessions[0], "placement", {})
        self.lost_devices: list[str] = []

    def lanes(self, batch_tokens: Sequence[int] | None) -> list[Lane]:
        """A lane for each thread that works on a call; see CpuSessions.lanes."""
        num_batches = _BATCHES_IN_FLIGHT if batch_tokens is None else len(batch_tokens)
        lanes: list[Lane] = [
            DeviceLane(session, self._retry)
            for _ in range(min(_BATCHES_IN_FLIGHT, num_batches) or 1)
            for session in self._sessions
        ]
        if num_batches == 1 and self._query_lane is not None and self._query_session in self._sessions:
            lanes[0] = self._query_lane(self._query_session, self._retry)
        return lanes

    def survives(self, lane: Lane, error: BaseException) -> bool:
        """Whether other lanes can do the batch that failed here; a device that fails is left out from then on.

        A batch that does not fit is no failure of the device: others may have more memory, and the device itself
        has more when only one batch is in flight.
        """
        if isinstance(error, DeviceMemoryError):
            return True
        with self._lock:
            others = [session for session in self._sessions if session.device != lane.device]
            if not isinstance(error, SessionError) or not others:
                return False
            if len(others) < len(self._sessions):
                warning("device %s failed and is left out: %s", lane.device.name, error)
                self.lost_devices.append(lane.device.name)
                self._sessions = others
        return True
