"""A bundle's words on a terminal: shown, never obeyed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import msgspec
import pytest
from tests import bundles

from embedge.archive import pack
from embedge.cli.main import main


def test_terminal_escapes_of_a_bundle_are_not_printed(tiny, capsys) -> None:
    folder = tiny(changes={"name": "\x1b]0;owned\x07", "architecture": "\x1b[2J", "assumed": ("a\x9bb",)})
    assert main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in said)
    assert "owned" in said


def test_what_was_accepted_though_it_misses_its_gate_is_said(tiny, capsys) -> None:
    folder = tiny()

    def accepted(manifest):
        spec = manifest.variants["fp32"]
        fidelity = msgspec.structs.replace(spec.fidelity, accepted="a cosine of 0.9 where 0.99 is asked")
        return msgspec.structs.replace(
            manifest, variants={"fp32": msgspec.structs.replace(spec, fidelity=fidelity)}
        )

    bundles.rewrite(folder, accepted)
    assert main(["inspect", str(folder)]) == 0
    assert "fp32 was accepted though: a cosine of 0.9 where 0.99 is asked" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="there are no terminals of this kind")
def test_the_bytes_that_have_come_are_shown_on_a_terminal_and_gone_at_the_end(tiny, tmp_path) -> None:
    packed = pack(tiny(), tmp_path / "tiny.embedge")
    ours, its = os.openpty()
    environment = os.environ | {"EMBEDGE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "embedge", "add", str(packed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=its, env=environment, check=True)
    os.close(its)
    seen = b""
    with contextlib.suppress(OSError):  # Linux says so where nothing is left
        while piece := os.read(ours, 4096):
            seen += piece
    os.close(ours)
    assert done.stdout.decode().strip().startswith(str(tmp_path / "home"))
    assert b" of it here\x1b[K" in seen
    assert seen.index(b"\r\x1b[K") < seen.index(b"fingerprint ")
