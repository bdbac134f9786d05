"""Consoles of other code pages than UTF-8, and programs without a console: nothing that is printed fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = """
import sys
from embedge.cli.main import main
bundle, text, notes = sys.argv[1:]
for words in (
    ["inspect", bundle],
    ["search", bundle, "the river", "--in", notes],
    ["encode", bundle, text],
    ["encode", bundle, text, "--prompt-name", text],
    ["encode", bundle, text, "--json"],
):
    print("STATUS", main(words))
"""
TEXT = "the river 川 → é"


def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=True, env=env
    )


@pytest.mark.parametrize(
    ("encoding", "shown", "dash"),
    [
        ("cp1252", "the river ? -> é", "–"),
        ("cp932", "the river 川 → ?", "-"),
        ("ascii", "the river ? -> ?", "-"),
    ],
)
def test_what_a_code_page_lacks_is_written_in_ascii(encoding, shown, dash, tiny, tmp_path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("the river runs 川 → é through the city, and that is a long paragraph\n", "utf-8")
    done = run(COMMANDS, tiny(), TEXT, notes, PYTHONIOENCODING=encoding)
    text, _, line = done.stdout.partition(b'{"index"')
    printed = text.decode(encoding)
    assert printed.split("STATUS ")[1:4] == [printed.split("STATUS ")[k] for k in (1, 2, 3)]
    assert [int(part[0]) for part in printed.split("STATUS ")[1:]] == [0, 0, 0, 1]
    assert "MEAN -> normalised" in printed or encoding == "cp932"
    assert "#" * 5 in printed
    assert shown in printed
    assert shown in done.stderr.decode(encoding)
    # JSON is UTF-8 wherever it goes
    assert json.loads((b'{"index"' + line).partition(b"\n")[0])["text"] == TEXT


BARS = """
import sys
from embedge import EdgeModel
with EdgeModel(sys.argv[1], device="cpu") as model:
    model.embed(["the river"] * 3, use_tqdm=True)
"""


@pytest.mark.parametrize(
    ("encoding", "bar"), [("cp1252", "#" * 24), ("cp932", "#" * 24), ("utf-8", "█" * 24)]
)
def test_bars_of_the_sdk(encoding, bar, tiny) -> None:
    done = run(BARS, tiny(), PYTHONIOENCODING=encoding)
    assert done.stderr.decode(encoding).startswith(f"embed {bar} 100% 3/3 in ")


WINDOWED = """
import logging, sys
from pathlib import Path
sys.stdin = sys.stdout = sys.stderr = None
from embedge import EdgeModel
from embedge.cli.main import main
with EdgeModel(sys.argv[1], device="cpu") as model:
    model.embed(["the river"], use_tqdm=True)
    logging.getLogger("embedge").warning("nobody sees this")
assert main(["encode", sys.argv[1], "the river", "--json"]) == 0
assert main(["encode", sys.argv[1], "the river", "--variant", "none"]) == 1
Path(sys.argv[2]).write_text("done")
"""


def test_a_windowed_program_has_no_streams(tiny, tmp_path) -> None:
    run(WINDOWED, tiny(), tmp_path / "done")
    assert (tmp_path / "done").read_text() == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_files_name_that_is_no_text_is_written_as_it_is(tiny, tmp_path) -> None:
    """So that a script finds the file."""
    target = os.fsencode(tmp_path) + b"/caf\xe9.embedge"
    code = "import sys; from embedge.cli.main import main; sys.exit(main(['pack', sys.argv[1], '-o', sys.argv[2]]))"
    done = run(code, tiny(), os.fsdecode(target), PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.stdout == target + b"\n"
    assert Path(os.fsdecode(target)).is_file()
