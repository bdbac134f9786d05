"""A fresh process that loads a bundle and embeds: no network call, no file written.

strace shows what is called. Where it is not installed, the kernel itself ends a process that asks for a socket.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embedge.testing import tiny_bundle

CODE = """
import sys, time
import embedge
with embedge.EdgeModel(sys.argv[1]) as model:
    vectors = model.embed(["a text", "another"] * 100).numpy()
    assert vectors.shape == (200, 8)
    list(model.stream(["one", "two"]))
time.sleep(1)  # onnxruntime's telemetry reports from a background thread
"""
INTERNET = re.compile(r"\b(socket|connect|sendto|sendmsg)\(.*AF_INET")
WRITES = re.compile(r"\bopen(?:at|at2)?\(.*O_(?:WRONLY|RDWR|CREAT)|\b(?:mkdir|rename|unlink)(?:at)?\(")


def environment(home: Path, **extra: str) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    return kept | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"} | extra


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


def traced_calls(bundle: Path, folder: Path, **extra: str) -> list[str]:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = folder / "trace"
    home = folder / "home"
    home.mkdir()
    calls = "network,openat,open,mkdir,mkdirat,rename,renameat,unlink,unlinkat"
    tracing = [strace, "-f", "-qq", "-e", f"trace={calls}", "-o", str(trace)]
    done = subprocess.run(
        [*tracing, sys.executable, "-c", CODE, str(bundle)],
        text=True, capture_output=True, check=False, env=environment(home, **extra),
    )  # fmt: skip
    if done.returncode and "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    assert any("model.onnx" in line for line in lines)
    return lines


def test_under_strace(bundle: Path, tmp_path: Path) -> None:
    lines = traced_calls(bundle, tmp_path)
    assert [line for line in lines if INTERNET.search(line)] == []
    devices = ("/dev/null", "/dev/tty", "/dev/shm", "/proc/", "/sys/")
    writes = [line for line in lines if WRITES.search(line) and not any(f'"{d}' in line for d in devices)]
    assert writes == []
    assert list((tmp_path / "home").iterdir()) == []


def test_the_trace_would_show_telemetry(bundle: Path, tmp_path: Path) -> None:
    """The check above can fail: onnxruntime left to itself writes a file or looks up a server."""
    lines = traced_calls(bundle, tmp_path, ORT_DISABLE_TELEMETRY="0")
    suspicious = [line for line in lines if INTERNET.search(line) or WRITES.search(line)]
    if not any(".onnxruntime" in line or INTERNET.search(line) for line in suspicious):
        pytest.skip("this onnxruntime build has no telemetry")


# a seccomp filter in classic BPF: the process is killed by its first socket(2), whoever calls it
KILLED_BY_A_SOCKET = """
import ctypes, platform, struct, sys
audit_arch, socket_call = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}[platform.machine()]
LOAD, EQUAL, RETURN, ALLOW, KILL = 0x20, 0x15, 0x06, 0x7FFF0000, 0x80000000
program = b"".join(struct.pack("HBBI", *line) for line in (
    (LOAD, 0, 0, 4), (EQUAL, 1, 0, audit_arch), (RETURN, 0, 0, ALLOW),
    (LOAD, 0, 0, 0), (EQUAL, 0, 1, socket_call), (RETURN, 0, 0, KILL), (RETURN, 0, 0, ALLOW)))
held = ctypes.create_string_buffer(program)
pointer = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, pointer, 0, 0):
    sys.exit(77)
"""


def run_without_sockets(code: str, bundle: Path, home: Path) -> int:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("the filter is written for Linux on x86-64 and arm64")
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BY_A_SOCKET + code, str(bundle)],
        text=True, capture_output=True, check=False, env=environment(home),
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("this kernel takes no seccomp filter")
    return done.returncode


def test_where_a_socket_is_the_end(bundle: Path, tmp_path: Path) -> None:
    assert run_without_sockets(CODE, bundle, tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_socket_is_the_end(bundle: Path, tmp_path: Path) -> None:
    """The check above can fail: Python's own sockets, and a lookup of a name."""
    assert run_without_sockets("import socket; socket.socket()", bundle, tmp_path) == -signal.SIGSYS
    lookup = "import socket; socket.getaddrinfo('embedge.invalid', 443)"
    assert run_without_sockets(lookup, bundle, tmp_path) == -signal.SIGSYS


@pytest.mark.parametrize("stated", [None, "0"])
def test_the_users_telemetry_setting_is_respected(stated: str | None) -> None:
    code = (
        f"import os, embedge; assert os.environ.get('ORT_DISABLE_TELEMETRY') == {stated!r}\n"
        "from embedge._sessions.onnxruntime import import_onnxruntime; import_onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    env |= {} if stated is None else {"ORT_DISABLE_TELEMETRY": stated}
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, env=env)
    assert done.stdout.strip() == (stated or "1")
