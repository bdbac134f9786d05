"""Memory of this process."""

from __future__ import annotations

import sys


def resident_mb():
    """What this process holds now, and its peak up to now, which begins anew; None where it cannot be told."""
    try:
        before = _status_mb("VmHWM")
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
            file.write("5")
        return _status_mb("VmRSS"), before
    except OSError:
        return None


def _status_mb(field):
    with open("/proc/self/status") as file:  # noqa: PTH123
        return next(int(line.split()[1]) for line in file if line.startswith(field)) / 1024


def peak_rss_mb():
    """This process's own peak. Linux's ru_maxrss survives exec, so that it may be the parent's."""
    try:
        return _status_mb("VmHWM")
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )
