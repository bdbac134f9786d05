"""What a result states about the machine: processor, cores, memory; no names, no paths."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from embedge.runtime import cpu_name

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def machine() -> dict:
    """Facts that timings depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", facts.get("Features", "")).split()
    return {
        "cpu": cpu_name(),
        "family": facts.get("cpu family", ""),
        "model": facts.get("model", ""),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "flags": [flag for flag in FLAGS if flag in flags],
        "system": platform.system(),
    }
