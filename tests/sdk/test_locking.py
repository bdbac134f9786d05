"""A file that one process holds: never two at once, also where its name is removed in between."""

from __future__ import annotations

import os
import subprocess
import sys

from embedge import _locking
from embedge._locking import hold_file

# takes the lock often, and each time makes a file that may not be there; says how often it had the lock
HAMMER = """
import sys, time
from pathlib import Path
from embedge._locking import hold_file
folder, end = Path(sys.argv[1]), time.monotonic() + 0.7
count = 0
while time.monotonic() < end:
    with hold_file(folder / "lock") as is_held:
        if is_held:
            (folder / "inside").open("x").close()
            (folder / "inside").unlink()
            count += 1
print(count)
"""


def test_one_at_a_time(tmp_path) -> None:
    path = tmp_path / "lock"
    with hold_file(path) as first:
        with hold_file(path) as second:
            assert (first, second) == (True, False)
        assert path.exists()
    assert not path.exists()
    with hold_file(path) as again:
        assert again


def test_a_file_whose_name_was_removed_is_not_held(tmp_path, monkeypatch) -> None:
    """Who held it removes the name between another's opening and locking."""
    path, opened, real = tmp_path / "lock", [], os.open

    def open_and_lose_the_name(*arguments):
        opened.append(real(*arguments))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(_locking.os, "open", open_and_lose_the_name)
    with hold_file(path) as is_held:
        assert is_held
        assert os.path.samestat(path.stat(), os.fstat(opened[-1]))
        with hold_file(path) as other:
            assert not other


def test_processes_never_hold_it_together(tmp_path) -> None:
    command = [sys.executable, "-c", HAMMER, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert min(counts) > 0


def test_the_end_of_a_process_lets_go(tmp_path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from embedge._locking import hold_file\n"
        "with hold_file(Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        with hold_file(tmp_path / "lock") as is_held:
            assert not is_held
        process.kill()
    with hold_file(tmp_path / "lock") as is_held:
        assert is_held
