"""The memory that this process can still get."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_NO_LIMIT = 1 << 62


def available_memory_bytes(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> int | None:
    """Memory that this process can still get without swapping; None where the system does not say.

    Args:
        cgroup: where the control groups are mounted.
        meminfo: Linux's account of its memory.
    """
    free = [_machine_bytes(meminfo), group_memory_bytes(cgroup)]
    return min((each for each in free if each is not None), default=None)


def _machine_bytes(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:  # macOS and the BSDs count free pages only, which is less than what is available
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def group_memory_bytes(cgroup: Path = _CGROUP) -> int | None:
    """Memory that the control group of this process still grants; None where it sets no limit."""
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = (cgroup / limit_file).read_text().strip()
            used = int((cgroup / used_file).read_text())
        except (OSError, ValueError):
            continue
        # version 1 states the largest number of whole pages
        return None if limit == "max" or int(limit) >= _NO_LIMIT else max(0, int(limit) - used)
    return None
