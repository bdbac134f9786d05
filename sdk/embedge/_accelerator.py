"""Sessions on accelerators: one per device, batches dealt from one queue, batches that do not fit cut smaller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from embedge._devices import Device
from embedge._session import Lane, Session
from embedge.errors import DeviceMemoryError, SessionError

_log = logging.getLogger("embedge")
_BATCHES_IN_FLIGHT = 2


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
            _log.warning("%s; it is run as two halves", error)
        half = (count + 1) // 2
        parts = [
            self.run(output, {name: array[rows] for name, array in feeds.items()})
            for rows in (slice(0, half), slice(half, count))
        ]
        return np.concatenate(parts)


class DeviceSessions:
    """A session on each device, with two batches in flight on each: one is copied while the other is computed.

    Args:
        open_session: opens a session on a device.
        devices: where to run.
        retry_smaller_batches: see EdgeModel.

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
    ) -> None:
        self._lock = threading.Lock()
        self._sessions = [open_session(device) for device in devices]
        self._retry = retry_smaller_batches
        self.placement: dict[str, int] = getattr(self._sessions[0], "placement", {})
        self.lost_devices: list[str] = []

    def lanes(self, num_batches: int) -> list[Lane]:
        """A lane for each thread that works on a call of so many batches."""
        return [
            DeviceLane(session, self._retry)
            for _ in range(min(_BATCHES_IN_FLIGHT, num_batches) or 1)
            for session in self._sessions
        ]

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
                _log.warning("device %s failed and is left out: %s", lane.device.name, error)
                self.lost_devices.append(lane.device.name)
                self._sessions = others
        return True
