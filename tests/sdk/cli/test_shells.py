"""Completion in the shells themselves, typed at a terminal."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from embedge.cli.completion import SHELLS
from embedge.cli.main import main

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals of this kind")
PATIENCE_S = 20
COMMANDS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SHOWN = {
    "bash": 'embedge() { if test "$1" = list; then command embedge "$@"; else printf "@%s" "$@"; echo @@; fi; }\n',
    "fish": 'function embedge; if test "$argv[1]" = list; command embedge $argv; '
    'else; printf "@%s" $argv; echo @@; end; end\n',
}
"""A function in place of the program, which shows what it was given, so that what a shell made of the keys is seen."""


class Typed:
    """A shell at a terminal of its own."""

    def __init__(self, shell: str, folder: Path, environment: dict[str, str]) -> None:
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(folder)
            os.execvpe(COMMANDS[shell][0], COMMANDS[shell], environment)

    def type(self, keys: str, until: str) -> str:
        """What the terminal shows after some keys, up to a pattern's first group."""
        os.write(self._terminal, keys.encode())
        shown, end = "", time.monotonic() + PATIENCE_S
        while (found := re.search(until, shown)) is None:
            assert time.monotonic() < end, shown
            if select.select([self._terminal], [], [], 1)[0]:
                shown += os.read(self._terminal, 65536).decode("utf-8", "replace")
        return found[1]

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._terminal)


@pytest.fixture(scope="module", params=SHELLS)
def typed(request, tmp_path_factory) -> Typed:
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    folder = tmp_path_factory.mktemp(shell)
    for name in ("store/minilm", "store/org/tiny", "bin", "notes"):
        (folder / name).mkdir(parents=True)
    for name in ("store/minilm/manifest.json", "store/org/tiny/manifest.json", "notes.txt", "with space.txt"):
        (folder / name).touch()
    (folder / "notes").rmdir()
    program = folder / "bin" / "embedge"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m embedge "$@"\n')
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, (folder / "rc").open("w") as rc:
        rc.write(SHOWN.get(shell, SHOWN["bash"]))
        patch.setattr(sys, "stdout", rc)
        assert main(["completion", shell]) == 0
    path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "EMBEDGE_HOME": str(folder / "store"), "HOME": str(folder)}
    made = Typed(shell, folder, environment | {"TERM": "xterm", "XDG_DATA_HOME": str(folder)})
    made.type('. ./rc; echo re""ady\n', r"(ready)")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("keys", "given"),
    [
        ("enc\t", ["encode"]),
        ("encode min\t", ["encode", "minilm"]),
        ("inspect org/\t", ["inspect", "org/tiny"]),
        ("serve min\torg/\t", ["serve", "minilm", "org/tiny"]),
        ("rm min\t", ["rm", "minilm"]),
        ("encode minilm --dim\t3", ["encode", "minilm", "--dimensions", "3"]),
        ("encode minilm no\t", ["encode", "minilm", "notes.txt"]),
        ("encode minilm with\t", ["encode", "minilm", "with space.txt"]),
        ("encode minilm -o no\t", ["encode", "minilm", "-o", "notes.txt"]),
        ("encode minilm --precision ub\t", ["encode", "minilm", "--precision", "ubinary"]),
        ("encode minilm --precision=ub\t", ["encode", "minilm", "--precision=ubinary"]),
        ("completion fi\t", ["completion", "fish"]),
        ("inspect minilm --fing\t", ["inspect", "minilm", "--fingerprint"]),
    ],
)
def test_a_shell_completes(typed, keys, given) -> None:
    shown = typed.type(f"embedge {keys}\n", r"@([^\r\n\x1b]*)@@")
    assert shown.rstrip().split("@") == given
