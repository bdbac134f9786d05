"""Short forms of all kinds; `make fuzz` runs the long ones. What was found once has tests where it was mended."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

pytest.importorskip("onnx")
resource = pytest.importorskip("resource")

from tests.fuzz import figures, running, worker  # noqa: E402
from tests.fuzz.kinds import KINDS, Kind  # noqa: E402
from tests.fuzz.places import DiffersError  # noqa: E402
from tests.soak.figures import write  # noqa: E402

from embedge import BundleError  # noqa: E402

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc"
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_ends_in_an_answer_or_one_of_our_errors(kind) -> None:
    summary = running.fuzz(kind, KINDS[kind].short, seed=4)
    assert summary.findings == []
    assert summary.tried >= KINDS[kind].short


class Bad:
    """Ends in every way that has to be noticed."""

    def __init__(self, scratch) -> None:
        self._kept: list[bytes] = []

    def run(self, index: int, rng: random.Random) -> None:
        if index == 0:
            return
        if index == 1:
            raise BundleError("refused")
        if index == 2:
            raise KeyError("foreign")
        if index == 3:
            raise DiffersError("differs")
        if index == 4:
            os.abort()
        if index == 5:
            while True:
                pass
        if index == 6:
            self._kept.append(b"x" * (400 << 20))
            self._kept.clear()
        if index == 7:
            raise KeyboardInterrupt
        if index == 8:
            raise BundleError("")
        if index == 9:
            time.sleep(0)
            bytearray(8 << 30)


def test_what_none_may_is_noticed(monkeypatch, tmp_path) -> None:
    """The workers are other processes, which know of it by a module that stands before the real one."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.abc\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "  def find_spec(self, name, path, target=None):\n"
        "    if name == 'tests.fuzz.worker':\n"
        "      sys.meta_path.remove(self)\n"
        "      from tests.fuzz.kinds import KINDS, Kind\n"
        "      from tests.fuzz.test_fuzz import Bad\n"
        "      KINDS['bad'] = Kind(make=Bad, count=10, short=10, what='bad cases')\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setitem(KINDS, "bad", Kind(make=Bad, count=10, short=10, what="bad cases"))
    summary = running.fuzz("bad", 10, seed=1)
    found = {each.index: each.outcome for each in summary.findings}
    assert found == {
        2: "foreign", 3: "differs", 4: "abort", 5: "hang", 6: "memory", 7: "foreign", 8: "message", 9: "foreign",
    }  # fmt: skip
    assert summary.outcomes["answered"] == summary.outcomes["refused"] == 1
    file = tmp_path / "reliability.md"
    write("fuzz", figures.section([summary], 1), file)
    write("soak", "## Soak", file)
    write("fuzz", figures.section([summary], 2), file)
    words = file.read_text()
    assert "| bad cases | 10 | 1 | 1 | 3 | 1 | 1 | 1 | 1 | 1 |" in words
    assert words.count("<!-- fuzz -->") == words.count("<!-- soak -->") == 1
    assert worker.MOST_CPU_S == 5
