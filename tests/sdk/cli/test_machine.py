"""What a machine without some things looks like, and what `bench` and `doctor` then say."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from itertools import count

import pytest

from embedge import ParamsError
from embedge import measure as _measure
from embedge._sessions.products import EXACT_INT8
from embedge.cli import machine
from embedge.cli.main import main


def test_a_python_without_documentation(monkeypatch) -> None:
    monkeypatch.setattr(inspect, "getdoc", lambda _: None)
    with pytest.raises(ParamsError, match="stripped of its documentation .* pass texts with --texts"):
        _measure.sample_texts(3)


class Clock:
    """Each look at it takes a while, which changes by a factor from look to look."""

    def __init__(self, factor: float) -> None:
        self._looks, self._factor, self._now = count(), factor, 0.0

    def perf_counter(self) -> float:
        self._now += 0.05 * self._factor ** next(self._looks)
        return self._now


@pytest.fixture
def bench(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "home"))

    def run(factor: float, *arguments: str) -> int:
        monkeypatch.setattr(_measure, "time", Clock(factor))
        return main(["bench", str(tiny()), "--splits", "--threads", "1", "--count", "20", *arguments])

    return run


def test_bench_says_how_to_keep_a_split_that_is_better_than_the_rule(bench, capsys) -> None:
    assert bench(0.99) == 0
    assert "--save keeps the best split" in capsys.readouterr().err
    assert bench(1.0) == 0
    assert capsys.readouterr().err == ""
    assert bench(0.99, "--save") == 0
    assert "saved to " in capsys.readouterr().err


def test_bench_shows_each_split_on_a_terminal(bench, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert bench(1.0) == 0
    shown = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in shown] == [
        f"1 x 1, {n} tokens" for n in (256, 512, 1024, 2048)
    ]


def test_bench_names_a_file_that_is_no_text(tiny, tmp_path, capsys) -> None:
    (tmp_path / "latin").write_bytes("caf\u00e9".encode("latin-1"))
    assert main(["bench", str(tiny()), "--texts", str(tmp_path / "latin")]) == 1
    assert "latin is not UTF-8: unexpected end of data at byte 3" in capsys.readouterr().err


@pytest.mark.parametrize(("found", "words"), [({EXACT_INT8}, "exact"), (set(), "overflow here; uint8 runs")])
def test_doctor_says_what_int8_comes_to(found, words, capsys, monkeypatch) -> None:
    monkeypatch.setattr(machine, "graph_features", lambda: frozenset(found))
    assert main(["doctor"]) == 0
    assert words in next(line for line in capsys.readouterr().out.splitlines() if "8-bit products" in line)


@pytest.mark.parametrize(("granted", "words"), [(2_500_000, "2.5 MB"), (None, "none")])
def test_doctor_says_what_a_cgroup_leaves(granted, words, capsys, monkeypatch) -> None:
    monkeypatch.setattr(machine, "group_memory_bytes", lambda: granted)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("of a cgroup's limit")).endswith(f" {words}")


def test_doctor_without_onnxruntime(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["doctor"]) == 1
    assert "onnxruntime cannot be imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"onnx", "torch"}, "not installed; pip install 'embedge[export]'"),
        ({"torch"}, "installed, without torch"),
        (set(), "installed, with torch"),
    ],
)
def test_doctor_says_what_of_the_exporter_is_here(missing, said, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else name)
    assert machine._findings()["exporter"] == said
