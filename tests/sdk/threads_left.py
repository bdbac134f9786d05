"""The threads that a test leaves behind."""

from __future__ import annotations

import threading


def threads_left() -> list[threading.Thread]:
    """Threads of embedge that run; those of asyncio's calls, which stay a moment, are waited for."""
    found = [thread for thread in threading.enumerate() if thread.name.startswith("embedge")]
    for thread in found:
        if thread.name == "embedge-call":
            thread.join(timeout=60)
    return [thread for thread in found if thread.is_alive()]
