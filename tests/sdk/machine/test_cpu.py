"""Processors that the process may use."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from embedge._machine import cpu as _cpu
from embedge._machine.cpu import (
    available_threads,
    cgroup_quota,
    cpu_features,
    cpu_name,
)


@pytest.mark.parametrize(
    ("content", "quota"), [("max 100000", None), ("150000 100000", 1.5), ("50000 100000", 0.5)]
)
def test_control_groups_version_2(tmp_path, content, quota) -> None:
    (tmp_path / "cpu.max").write_text(content + "\n")
    assert cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(("content", "quota"), [("-1", None), ("200000", 2.0)])
def test_control_groups_version_1(tmp_path, content, quota) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(content + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(tmp_path) == quota


def test_no_control_groups(tmp_path) -> None:
    assert cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "threads"), [("max", 6), ("150000", 2), ("10000", 1), ("900000", 6)])
def test_the_smaller_of_affinity_and_quota(tmp_path, monkeypatch, quota, threads) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} 100000")
    monkeypatch.setattr(_cpu, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert available_threads() == threads


@pytest.mark.parametrize(("counted", "threads"), [(5, 5), (None, 1)])
def test_without_affinity_the_processors_are_counted(tmp_path, monkeypatch, counted, threads) -> None:
    monkeypatch.setattr(_cpu, "_CGROUP", tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert available_threads() == threads


def test_processor_facts_are_read_as_linux_states_them(tmp_path) -> None:
    x86 = tmp_path / "x86"
    x86.write_text("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni\n")
    assert (cpu_name(x86), cpu_features(x86)) == ("Some CPU", ("avx2", "avx512_vnni"))
    arm = tmp_path / "arm"
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n")
    assert cpu_features(arm) == ("asimd", "asimddp", "i8mm")
    assert cpu_name(tmp_path / "none")


def test_a_processor_that_is_not_named(tmp_path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nvendor_id : GenuineIntel\n")
    assert cpu_name(tmp_path / "cpuinfo") == cpu_name(tmp_path / "none")
    assert cpu_name(tmp_path / "none")


def test_a_processor_is_named_without_trademark_signs(tmp_path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: Intel(R) Core(TM)  i7-1165G7 @ 2.80GHz\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Intel Core i7-1165G7 @ 2.80GHz"


@pytest.mark.parametrize("brand", ["Apple M3 Pro", "", None])
def test_macos_says_the_brand(tmp_path, monkeypatch, brand) -> None:
    def run(command, **_):
        if brand is None:
            raise FileNotFoundError(command[0])
        return SimpleNamespace(stdout=f"machdep.cpu.brand_string: {brand}\n")

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert cpu_name(tmp_path / "none") == (brand or "arm64")
