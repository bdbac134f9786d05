"""The processors that this process may use, by affinity and cgroup limits, and what they can."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

from embedge._machine.other_systems import other_features, other_name

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_FEATURES = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""What the kernels of onnxruntime tell apart, as Linux spells it; the last five are ARM's."""


def available_threads() -> int:
    """Processors that this process may run on, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = processor_quota()
    # a quota of 1.5 processors keeps two threads busy three quarters of the time
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def processor_quota() -> float | None:
    """Processors that this process's control group grants, or None where it sets no limit."""
    return cgroup_quota(_CGROUP)


def cgroup_quota(root: Path) -> float | None:
    """Processors that the control group grants, or None where it sets no limit.

    Args:
        root: where the control groups are mounted; version 2 (cpu.max) and 1 (cpu.cfs_quota_us) are read.
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def cpu_features(cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    """Instruction sets that matter to the speed of a graph, in Linux's words, as far as the system tells them.

    Args:
        cpuinfo: Linux's description of the processors; where there is none, the system or numpy is asked.
    """
    flags = (
        set(_first_value(cpuinfo, ("flags", "Features")).split()) if cpuinfo.exists() else other_features()
    )
    return tuple(name for name in _FEATURES if name in flags)


def cpu_name(cpuinfo: Path = _CPUINFO) -> str:
    """The processor's name, as far as the system tells it, without trademark signs.

    Args:
        cpuinfo: Linux's description of the processors.
    """
    stated = _first_value(cpuinfo, ("model name", "Model")) or other_name()
    name = " ".join(stated.replace("(R)", "").replace("(TM)", "").split())
    return name or platform.processor() or platform.machine() or "unknown processor"


def _first_value(cpuinfo: Path, names: tuple[str, ...]) -> str:
    try:
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in names:
                return value.strip()
    except OSError:
        pass
    return ""
