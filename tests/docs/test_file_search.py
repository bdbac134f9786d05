"""The example program: its index follows the folder, and its window answers while it reads."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.docs.reading import ROOT

from embedge import CallCancelledError, EdgeModel
from embedge.testing import tiny_bundle

needs_xvfb = pytest.mark.skipif(
    shutil.which("Xvfb") is None, reason="needs Debian's Xvfb: apt-get install xvfb"
)


@pytest.fixture(scope="module")
def program():
    pytest.importorskip("tkinter")
    spec = importlib.util.spec_from_file_location(
        "file_search", ROOT / "docs" / "examples" / "file_search.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["file_search"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["file_search"]


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "notes"
    (made / "sub").mkdir(parents=True)
    made.joinpath("one.md").write_text(
        "# One\n\nthe world is large and old\n\nthe second text of this file\n"
    )
    made.joinpath("sub", "two.txt").write_text("a text of the other file\n")
    made.joinpath("three.bin").write_text("not a text that is read by it\n")
    return made


@pytest.fixture
def model(tmp_path):
    with EdgeModel(tiny_bundle(tmp_path / "tiny", "embed")) as model:
        yield model


def read(program, folder, model) -> tuple[object, int]:
    index = program.Index.open(folder, model.info.fingerprint)
    return index, index.update(model, threading.Event(), lambda *_: None)


def test_the_index_follows_the_folder(program, folder, model) -> None:
    index, new = read(program, folder, model)
    assert new == 3
    assert index.search(model, "the world is large and old", threading.Event())[0][1:] == (
        "one.md",
        "the world is large and old",
    )
    assert read(program, folder, model)[1] == 0
    folder.joinpath("four.rst").write_text("one more text that is new here\n")
    folder.joinpath("one.md").unlink()
    index, new = read(program, folder, model)
    assert new == 1
    assert [name for name, _ in index.content[0]] == ["sub/two.txt", "four.rst"]
    assert len(index.content[1]) == 2
    assert program.Index.open(folder, "another bundle").content[0] == []
    folder.joinpath(".file-search.npz").write_bytes(b"broken")
    assert read(program, folder, model)[1] == 2


def test_what_was_read_before_a_cancel_stays(program, folder, model, monkeypatch) -> None:
    monkeypatch.setattr(program, "PIECE", 1)
    stop = threading.Event()
    index = program.Index.open(folder, model.info.fingerprint)
    with pytest.raises(CallCancelledError):
        index.update(model, stop, lambda *_: stop.set())
    assert 0 < len(program.Index.open(folder, model.info.fingerprint).content[0]) < 3
    assert read(program, folder, model)[1] < 3


@needs_xvfb
def test_the_window_answers_and_closes(folder, tmp_path) -> None:
    """In a process of its own, with a screen of its own."""
    bundle = tiny_bundle(tmp_path / "tiny", "embed")
    code = """
import sys, threading, time, tkinter as tk
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from file_search import Window
root = tk.Tk()
window = Window(root, sys.argv[2])
window.open_folder(Path(sys.argv[3]))
window.question.set("a text of the other file")
end = time.monotonic() + 60
while time.monotonic() < end and not window.hits.get_children():
    root.update()
    time.sleep(0.01)
print(window.status.get())
print(window.hits.item(window.hits.get_children()[0], "values")[1])
window.open_folder(Path(sys.argv[3]))
window.close()
print(threading.active_count())
"""
    number = 90 + os.getpid() % 500
    screen = subprocess.Popen(["Xvfb", f":{number}", "-screen", "0", "920x600x24"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if Path(f"/tmp/.X11-unix/X{number}").exists():
                break
            time.sleep(0.05)
        done = subprocess.run(
            [sys.executable, "-c", code, ROOT / "docs" / "examples", bundle, folder],
            env=os.environ | {"DISPLAY": f":{number}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
    finally:
        screen.terminate()
        screen.wait()
    assert done.stdout.splitlines() == ["3 paragraphs of 2 files, 3 of them new", "sub/two.txt", "1"], (
        done.stderr
    )
    assert done.stderr == ""
