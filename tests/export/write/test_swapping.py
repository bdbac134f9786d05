"""Replacing a bundle: killed or failing at any call, one of the two is whole, and the next export leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from embedge._placing import swapping
from embedge.errors import ExportError
from embedge.store import commit
from embedge_export.write.staging import staging

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
EVENTS = ("os.", "shutil.", "open", "ctypes.", "tempfile.")
OLD, NEW = "old", "new"


def bundle(folder: Path, words: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("manifest.json", "weights"):
        (folder / name).write_text(words)


def replace(target: Path, words: str = NEW) -> None:
    with staging(target, 0, force=True) as folder:
        bundle(folder, words)
        commit(folder, target)


def whole(target: Path) -> str | None:
    """What lies there, if it is all there."""
    if not target.is_dir():
        return None
    words = {path.read_text() for path in target.iterdir()}
    assert len(words) == 1
    assert len(list(target.iterdir())) == 2
    return words.pop()


def at_call(number: int, act, target: Path) -> int:
    """Replace the bundle in a child process that meets something at its n-th call of the file system."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0

    def hook(event: str, _) -> None:
        nonlocal count
        if event.startswith(EVENTS):
            count += 1
            if count == number:
                act()

    try:
        sys.addaudithook(hook)
        replace(target)
        os._exit(0 if count < number else 1)
    except BaseException:
        os._exit(1)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("exchanging", [True, False])
@pytest.mark.parametrize("act", [kill, fail])
def test_at_every_call(tmp_path, monkeypatch, exchanging, act) -> None:
    if not exchanging:
        monkeypatch.setattr(swapping, "exchange", lambda *_: False)
    target = tmp_path / "bundle"
    number, code = 0, 1
    found = set()
    while code:
        number += 1
        bundle(target, OLD)
        code = at_call(number, act, target)
        left = whole(target)
        found.add(left)
        if exchanging or act is fail:
            assert left in (OLD, NEW)
        with staging(target, 0, force=True):  # the next export, which comes to nothing
            pass
        assert whole(target) in (OLD, NEW)
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert number > 10
    assert {OLD, NEW} <= found


def test_a_new_bundle_and_an_empty_folder(tmp_path) -> None:
    target = tmp_path / "bundle"
    replace(target)
    assert whole(target) == NEW
    (tmp_path / "empty").mkdir()
    replace(tmp_path / "empty")
    assert whole(tmp_path / "empty") == NEW


def test_an_old_bundle_that_was_put_back_is_not_replaced_unasked(tmp_path) -> None:
    bundle(tmp_path / ".bundle.export-old", OLD)
    with pytest.raises(ExportError, match="Pass --force"), staging(tmp_path / "bundle", 0, force=False):
        pass
    assert whole(tmp_path / "bundle") == OLD


def test_two_exports_to_one_folder(tmp_path) -> None:
    target = tmp_path / "bundle"
    with staging(target, 0, force=True) as folder:
        with pytest.raises(ExportError, match="is being written by another process"):
            replace(target)
        bundle(folder, NEW)
        commit(folder, target)
    assert whole(target) == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_leave_nothing(tmp_path, name) -> None:
    code = """
import sys, signal
from pathlib import Path
from embedge_export.write.staging import staging
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has it ignore
with staging(Path(sys.argv[1]), 0, force=True) as folder:
    (folder / "weights").write_text("half")
    print("ready", flush=True)
    signal.pause()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "bundle"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(getattr(signal, name))
    _, words = process.communicate(timeout=30)
    assert (process.returncode, words) == (128 + getattr(signal, name), b"")
    assert list(tmp_path.iterdir()) == []


def test_signals_that_the_application_uses_are_its_own(tmp_path) -> None:
    seen: list[int] = []
    usual = signal.signal(signal.SIGTERM, lambda signum, _: seen.append(signum))
    try:
        with staging(tmp_path / "bundle", 0, force=True):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert seen == [signal.SIGTERM]
    others = threading.Thread(target=replace, args=(tmp_path / "bundle",))
    others.start()
    others.join()
    assert whole(tmp_path / "bundle") == NEW


@pytest.mark.skipif(sys.platform != "linux", reason="what its renameat2 answers")
def test_what_the_system_does_not_exchange(tmp_path) -> None:
    (tmp_path / "old" / "inside").mkdir(parents=True)
    assert not swapping.exchange(tmp_path / "old", tmp_path / "old" / "inside")
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        swapping.exchange(tmp_path / "old", tmp_path / "gone")
    assert (tmp_path / "old" / "inside").is_dir()
