"""Servers in processes of their own, on loopback, with tiny bundles."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedge.testing import tiny_bundle

# `make test` has them; where an older environment has none, the others still run
collect_ignore_glob = [] if importlib.util.find_spec("starlette") else ["test_*.py"]

KEY = "the-key"


class Server:
    """A running `embedge serve`."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        return self.process.wait(20)


@contextmanager
def serving(*arguments: str | Path, key: str | None = None) -> Iterator[Server]:
    command = [sys.executable, "-m", "embedge", "serve", *map(str, arguments), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "EMBEDGE_API_KEY"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment | ({"EMBEDGE_API_KEY": key} if key else {}),
    )  # fmt: skip
    with process:
        try:
            for line in process.stdout:
                if found := re.search(r"listening at (\S+)", line):
                    server = Server(process, found[1])
                    yield server
                    assert server.stop() == 0
                    break
            else:
                pytest.fail(process.stderr.read())
        finally:
            process.kill()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    matryoshka = {"matryoshka": (2, 4, 8), "prompts": {"query": "the "}}
    made = {
        "embed": tiny_bundle(folder / "embed", changes=matryoshka),
        "other": tiny_bundle(folder / "other", seed=7, changes={"name": "other"}),
    }
    return made | {kind: tiny_bundle(folder / kind, kind) for kind in ("cross_encoder", "classify", "sparse")}


@pytest.fixture(scope="session")
def server(bundles) -> Iterator[Server]:
    with serving(*bundles.values(), "--max-inputs", "1024", key=KEY) as running:
        yield running
