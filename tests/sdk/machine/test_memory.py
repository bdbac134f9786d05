"""The memory that is free, as Linux, a control group or another system says it."""

from __future__ import annotations

from embedge._machine import memory as _memory
from embedge._machine.memory import available_memory_bytes, group_memory_bytes


def test_free_memory_is_the_least_that_anyone_grants(tmp_path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:   4000 kB\n")
    assert available_memory_bytes(tmp_path, meminfo) == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert available_memory_bytes(tmp_path, meminfo) == group_memory_bytes(tmp_path) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert group_memory_bytes(tmp_path) is None
    assert available_memory_bytes(tmp_path, meminfo) == 4000 * 1024


def test_free_memory_in_a_control_group_of_version_1(tmp_path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("5000\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("6000\n")
    assert available_memory_bytes(tmp_path, tmp_path / "none") == 0
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert group_memory_bytes(tmp_path) is None


def test_a_system_that_does_not_say_what_is_available(tmp_path, monkeypatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\n")
    pages = {"SC_AVPHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(_memory.os, "sysconf", pages.__getitem__, raising=False)
    for file in (meminfo, tmp_path / "none"):
        assert available_memory_bytes(tmp_path, file) == 40960

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(_memory.os, "sysconf", unknown, raising=False)
    assert available_memory_bytes(tmp_path, meminfo) is None


def test_this_machine_says_what_is_free() -> None:
    free = available_memory_bytes()
    assert free is None or free > 0
