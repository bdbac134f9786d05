"""Memory of results goes back to the system with them, whatever lies between them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedge._machine.own_memory import empty_rows, in_one_block
from embedge.types import FloatArray

_DROPPED = """
import sys
import numpy as np
from embedge._machine.own_memory import in_one_block

def rss():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

np.ones(4_000_000)  # when it is freed, glibc takes what is smaller from where it gives little back
held, between = [], []
before = rss()
for _ in range(100):
    batch = [np.ones((60, 384), np.float32) for _ in range(10)]
    held.append(in_one_block(batch) if sys.argv[1] == "block" else batch)
    del batch
    between.append(bytes(100_000))
during = rss() - len(between) / 10
held.clear()
print(during - before, rss() - len(between) / 10 - before)
"""


def _taken_mib(how: str) -> list[float]:
    run = subprocess.run([sys.executable, "-c", _DROPPED, how], capture_output=True, text=True, check=True)
    return [float(word) for word in run.stdout.split()]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="read from Linux's /proc")
def test_dropped_results_leave_nothing_behind() -> None:
    during, after = _taken_mib("block")
    assert during > 80
    assert after < 10


def test_a_block_holds_the_arrays_of_any_shape() -> None:
    arrays: list[FloatArray] = [np.arange(n * 7, dtype=np.float32).reshape(n, 7) for n in (1, 0, 3000)]
    copies = in_one_block(arrays)
    for copy, array in zip(copies, arrays, strict=True):
        np.testing.assert_array_equal(copy, array)
    copies[0][:] = -1
    assert copies[2][0, 0] == 0
    assert in_one_block([]) == []


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (100_000, 3)])
def test_empty_rows_can_be_written(shape: tuple[int, ...]) -> None:
    rows = empty_rows(shape)
    rows[:] = 2
    assert rows.dtype == np.float32
    assert rows.shape == shape


def test_results_that_no_memory_holds_are_python_s_own_error() -> None:
    with pytest.raises(MemoryError, match="no memory for 1125899906842624 bytes of results"):
        empty_rows((1 << 40, 256))
