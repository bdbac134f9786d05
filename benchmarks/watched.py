"""A whole program, and what it takes while it runs: seconds, processors' seconds, and memory with its children's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_MOST_STDERR = 4000


class Watched:
    """A program whose memory is looked at fifty times a second, after a minute twice.

    Args:
        command: the program and its arguments.
        environment: variables besides this process's.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | (environment or {}),
        )
        self.samples: list[tuple[float, float]] = []
        """Seconds since the start, and MB then."""

    def wait(self, is_due: Callable[[], bool] | None = None) -> dict:
        """Until it ends, or is killed because that is due.

        Returns:
            status, wall_s, cpu_s, and peak_mb.

        Raises:
            SystemExit: it failed; with what it said.
        """
        told, largest = bytearray(), 0.0
        os.set_blocking(self._process.stderr.fileno(), False)
        while True:
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            wall_s = time.perf_counter() - self._started
            # a program that says much would wait for somebody to read it
            told += self._process.stderr.read() or b""
            if pid:
                self._process.stderr.close()
                self._process.returncode = os.waitstatus_to_exitcode(status)
                if self._process.returncode not in (0, -signal.SIGKILL):
                    raise SystemExit(told[-_MOST_STDERR:].decode(errors="replace"))
                return {
                    "status": self._process.returncode,
                    "wall_s": wall_s,
                    "cpu_s": used.ru_utime + used.ru_stime,
                    "peak_mb": largest,
                }
            if is_due is not None and is_due():
                self._process.send_signal(signal.SIGKILL)
            now = sum(_memory_mb(each, "VmRSS") for each in _tree(self._process.pid))
            # the system's own record of the program misses no short peak; wait4's begins at this process's
            largest = max(largest, now, _memory_mb(self._process.pid, "VmHWM"))
            self.samples.append((wall_s, now))
            time.sleep(0.02 if wall_s < 60 else 0.5)


def _tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        for tasks in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, _read(tasks).split())
    return found


def _memory_mb(pid: int, name: str) -> float:
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return next((int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith(f"{name}:")), 0.0)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # of a process that has just ended
        return ""
