"""What macOS and Windows tell of a processor, in Linux's words.

M1, M3 and BROADWELL are lines of what sysctl printed on such machines; ICE_LAKE and Windows' answers are written after
the names of Apple's kernel and the numbers of winnt.h, as no recording of them was at hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from embedge._machine.cpu import cpu_features
from embedge._machine.other_systems import (
    numpy_features,
    numpy_words,
    other_features,
    sysctl_facts,
    windows_features,
)

M1 = """machdep.cpu.brand_string: Apple M1
hw.optional.arm.FEAT_FlagM: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_SHA3: 1
hw.optional.arm.FEAT_BF16: 0
hw.optional.arm.FEAT_I8MM: 0
hw.optional.floatingpoint: 1
hw.optional.neon: 1
hw.optional.arm64: 1
"""
M1_OF_2020 = """machdep.cpu.brand_string: Apple M1
hw.optional.neon: 1
hw.optional.neon_hpfp: 1
hw.optional.armv8_2_sha3: 1
hw.optional.amx_version: 2
hw.optional.arm64: 1
"""
M3 = """machdep.cpu.brand_string: Apple M3
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.AdvSIMD: 1
"""
BROADWELL = """machdep.cpu.brand_string: Intel(R) Core(TM) i5-5250U CPU @ 1.60GHz
machdep.cpu.features: FPU VME DE PSE TSC MSR SSE SSE2 SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES AVX1.0 RDRAND F16C
machdep.cpu.leaf7_features: RDWRFSGS TSC_THREAD_OFFSET BMI1 AVX2 SMEP BMI2 ERMS INVPCID FPU_CSDS RDSEED ADX SMAP IPT
hw.optional.avx1_0: 1
hw.optional.avx2_0: 1
hw.optional.avx512f: 0
"""
ICE_LAKE = """machdep.cpu.brand_string: Intel(R) Core(TM) i5-1038NG7 CPU @ 2.00GHz
machdep.cpu.features: FPU SSE4.2 FMA AVX1.0 F16C
machdep.cpu.leaf7_features: BMI1 AVX2 AVX512F AVX512DQ AVX512IFMA AVX512CD AVX512BW AVX512VL AVX512VBMI AVX512_VNNI
hw.optional.avx512f: 1
"""


@pytest.mark.parametrize(
    ("printed", "name", "features"),
    [
        (M1, "Apple M1", {"asimd", "asimddp"}),
        (M1_OF_2020, "Apple M1", {"asimd"}),
        (M3, "Apple M3", {"asimd", "asimddp", "bf16", "i8mm"}),
        (BROADWELL, "Intel(R) Core(TM) i5-5250U CPU @ 1.60GHz", {"avx2", "fma"}),
        (ICE_LAKE, "Intel(R) Core(TM) i5-1038NG7 CPU @ 2.00GHz", {"avx2", "fma", "avx512f", "avx512_vnni"}),
        ("", "", set()),
        ("sysctl: unknown oid 'machdep.cpu.features'\n", "", set()),
    ],
)
def test_what_sysctl_prints(printed, name, features) -> None:
    assert sysctl_facts(printed) == (name, features)


ARM = {19, 30, 31, 34, 43, 44, 45}
"""Of winnt.h: NEON, cryptography, CRC32, atomics, dot products, JSCVT, LRCPC."""


def test_what_windows_answers() -> None:
    assert windows_features(lambda number: number in ARM, {}) == {"asimd", "asimddp"}
    x86 = {6, 10, 13, 17, 36, 37, 38, 39, 40}
    assert windows_features(lambda number: int(number in x86), {}) == {"avx2"}
    # there is no number for these, and numpy asks the processor itself
    asked = {"FMA3": True, "AVX512VNNI": True, "AVX512F": True, "AVX512_SPR": False, "SSE42": True}
    found = windows_features(lambda number: number in x86 | {41}, asked)
    assert found == {"avx2", "fma", "avx512f", "avx512_vnni"}
    assert numpy_words({"AVX512_ICL": True}) == {"avx512_vnni"}


@pytest.mark.skipif(sys.platform != "linux", reason="what numpy says is compared with /proc/cpuinfo")
def test_numpy_says_the_same_as_linux() -> None:
    names = {"avx2", "fma", "avx512f", "avx512_vnni"}
    assert Path("/proc/cpuinfo").exists()
    assert numpy_words(numpy_features()) & names == set(cpu_features()) & names


@pytest.mark.skipif(sys.platform != "linux", reason="what numpy says, against what the kernel says")
def test_where_nobody_tells_but_numpy() -> None:
    found = other_features()
    assert found
    assert found <= set(cpu_features())
