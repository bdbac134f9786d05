"""Processors that the process may use."""

from __future__ import annotations

import os

import pytest

from embedge import _cpu
from embedge._cpu import available_threads, cgroup_quota


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
