"""What macOS and Windows tell of the processor; Linux has /proc/cpuinfo."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

_SYSCTL = (
    "/usr/sbin/sysctl",
    "machdep.cpu.brand_string",
    "machdep.cpu.features",
    "machdep.cpu.leaf7_features",
    "hw.optional",
)
_INTEL = {
    "AVX2": "avx2", "FMA": "fma", "AVXVNNI": "avx_vnni", "AVX512F": "avx512f", "AVX512VNNI": "avx512_vnni",
    "AVX512BF16": "avx512_bf16", "AMXINT8": "amx_int8", "AMXBF16": "amx_bf16",
}  # fmt: skip
"""Linux's words by those of machdep.cpu and numpy, without underscores."""
_ARM = {
    "AdvSIMD": "asimd", "FEAT_DotProd": "asimddp", "FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16", "FEAT_SVE": "sve",
}  # fmt: skip
"""Likewise by those of hw.optional and hw.optional.arm."""
_WINDOWS = {40: "avx2", 41: "avx512f", 19: "asimd", 43: "asimddp", 66: "i8mm", 68: "bf16", 46: "sve"}
"""By numbers of IsProcessorFeaturePresent: PF_AVX2_INSTRUCTIONS_AVAILABLE and so on, of winnt.h."""
_NUMPY = {"FMA3": "fma", "AVX512_ICL": "avx512_vnni", "AVX512_SPR": "avx512_vnni"}
"""Linux's words by numpy's own names, and groups of AVX512 that have VNNI."""


def sysctl_facts(text: str) -> tuple[str, frozenset[str]]:
    """The processor's name and its instruction sets in Linux's words.

    Args:
        text: what `sysctl machdep.cpu.brand_string machdep.cpu.features machdep.cpu.leaf7_features hw.optional` prints;
            it leaves out what the processor does not have.
    """
    stated = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        stated[name.strip()] = value.strip()
    listed = (
        f"{stated.get('machdep.cpu.features', '')} {stated.get('machdep.cpu.leaf7_features', '')}".split()
    )
    found = {_INTEL[word] for each in listed if (word := each.replace("_", "").upper()) in _INTEL}
    for name, value in stated.items():
        if name.startswith("hw.optional.") and value == "1" and (word := name.rsplit(".", 1)[1]) in _ARM:
            found.add(_ARM[word])
    if stated.get("hw.optional.arm64") == "1" or stated.get("hw.optional.neon") == "1":
        found.add("asimd")
    return stated.get("machdep.cpu.brand_string", ""), frozenset(found)


def windows_features(is_present: Callable[[int], Any], numpy_features: dict[str, bool]) -> frozenset[str]:
    """Instruction sets in Linux's words.

    Args:
        is_present: IsProcessorFeaturePresent of kernel32; 0 also stands for what this Windows does not know.
        numpy_features: what numpy found, which Windows has no number for.
    """
    found = {name for number, name in _WINDOWS.items() if is_present(number)}
    return frozenset(found | numpy_words(numpy_features))


def numpy_words(features: dict[str, bool]) -> set[str]:
    """What numpy found, in Linux's words."""
    there = [name for name, present in features.items() if present]
    found = {_NUMPY[name] for name in there if name in _NUMPY}
    return found | {_INTEL[word] for each in there if (word := each.replace("_", "")) in _INTEL}


@functools.cache
def other_features() -> frozenset[str]:
    """Instruction sets of this processor, as far as macOS, Windows or numpy tell them."""
    if sys.platform == "darwin":
        return _asked_on_macos()[1] | numpy_words(numpy_features())
    if sys.platform == "win32":
        import ctypes

        return windows_features(ctypes.windll.kernel32.IsProcessorFeaturePresent, numpy_features())
    return frozenset(numpy_words(numpy_features()))


def other_name() -> str:
    """This processor's name, as macOS or Windows tells it; empty elsewhere."""
    if sys.platform == "darwin":
        return _asked_on_macos()[0]
    if sys.platform == "win32":
        import winreg

        try:
            with winreg.OpenKey(
                winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
            ) as key:
                return str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
        except OSError:
            return ""
    return ""


def numpy_features() -> dict[str, bool]:
    """What numpy found of this processor, by its own names."""
    # numpy 2 moved it
    core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
    found: dict[str, bool] = importlib.import_module(f"{core}._multiarray_umath").__cpu_features__
    return found


def _asked_on_macos() -> tuple[str, frozenset[str]]:
    import subprocess  # costs more at import than the rest of this module

    try:
        # fails for the names that this processor does not have, and prints the others
        return sysctl_facts(subprocess.run(_SYSCTL, capture_output=True, text=True, check=False).stdout)
    except OSError:
        return "", frozenset()
