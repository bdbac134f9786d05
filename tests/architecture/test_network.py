"""A fresh process that loads a bundle and embeds: no network call, no file written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys, time
import embedge
with embedge.EdgeModel(sys.argv[1]) as model:
    vectors = model.embed(["a text", "another"] * 100).numpy()
    assert vectors.shape == (200, 32)
    list(model.stream(["one", "two"]))
time.sleep(1)  # onnxruntime's telemetry reports from a background thread
"""
INTERNET = re.compile(r"\b(socket|connect|sendto|sendmsg)\(.*AF_INET")
WRITES = re.compile(r"\bopen(?:at|at2)?\(.*O_(?:WRONLY|RDWR|CREAT)|\b(?:mkdir|rename|unlink)(?:at)?\(")


def environment(home: Path, **extra: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"} | extra


def traced_calls(bundle: Path, folder: Path, **extra: str) -> list[str]:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = folder / "trace"
    home = folder / "home"
    home.mkdir()
    calls = "network,openat,open,mkdir,mkdirat,rename,renameat,unlink,unlinkat"
    done = subprocess.run(
        [strace, "-f", "-qq", "-e", f"trace={calls}", "-o", str(trace), sys.executable, "-c", CODE, str(bundle)],
        text=True, capture_output=True, check=False, env=environment(home, **extra),
    )  # fmt: skip
    if done.returncode and "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    assert any("model.onnx" in line for line in lines)
    return lines


def test_under_strace(tiny_embedder: Path, tmp_path: Path) -> None:
    lines = traced_calls(tiny_embedder, tmp_path)
    assert [line for line in lines if INTERNET.search(line)] == []
    devices = ("/dev/null", "/dev/tty", "/dev/shm", "/proc/", "/sys/")
    writes = [line for line in lines if WRITES.search(line) and not any(f'"{d}' in line for d in devices)]
    assert writes == []
    assert list((tmp_path / "home").iterdir()) == []


def test_the_trace_would_show_telemetry(tiny_embedder: Path, tmp_path: Path) -> None:
    """The check above can fail: onnxruntime left to itself writes a file or looks up a server."""
    lines = traced_calls(tiny_embedder, tmp_path, ORT_DISABLE_TELEMETRY="0")
    suspicious = [line for line in lines if INTERNET.search(line) or WRITES.search(line)]
    if not any(".onnxruntime" in line or INTERNET.search(line) for line in suspicious):
        pytest.skip("this onnxruntime build has no telemetry")


def test_with_trapped_sockets(tiny_embedder: Path, tmp_path: Path) -> None:
    trap = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket was asked for')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", trap + CODE, str(tiny_embedder)],
        text=True, capture_output=True, check=False, env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stated", [None, "0"])
def test_the_users_telemetry_setting_is_respected(stated: str | None) -> None:
    code = (
        f"import os, embedge; assert os.environ.get('ORT_DISABLE_TELEMETRY') == {stated!r}\n"
        "from embedge._onnxruntime import import_onnxruntime; import_onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    env |= {} if stated is None else {"ORT_DISABLE_TELEMETRY": stated}
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, env=env)
    assert done.stdout.strip() == (stated or "1")
