"""The progress line."""

from __future__ import annotations

import io
import sys

import pytest

from embedge._calls import progress as _progress
from embedge._calls.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_unless_asked(capsys) -> None:
    with ProgressBar(3, False, "embed") as progress:
        progress.update(3)
    assert capsys.readouterr() == ("", "")


def test_one_closing_line_without_a_terminal(capsys) -> None:
    with ProgressBar(1500, True, "embed") as progress:
        progress.update(1000)
        progress.update(500)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("embed ████████████████████████ 100% 1,500/1,500 in ")
    assert captured.err.count("\n") == 1
    assert "\r" not in captured.err


def test_redraws_on_a_terminal(monkeypatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(_progress, "_REDRAW_S", 0.0)
    with ProgressBar(4, True, "embed") as progress:
        progress.update(1)
        progress.update(1)
    lines = stderr.getvalue().split("\r")
    assert [line.split()[2:4] for line in lines[1:]] == [["25%", "1/4"], ["50%", "2/4"], ["50%", "2/4"]]
    assert lines[-1].endswith("\n")


def test_redraws_are_rare(monkeypatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(_progress, "_REDRAW_S", 3600.0)
    with ProgressBar(4, True, "embed") as progress:
        for _ in range(4):
            progress.update(1)
    assert stderr.getvalue().count("\r") == 1


def test_nothing_to_do_is_done(capsys) -> None:
    with ProgressBar(0, True, "embed"):
        pass
    assert "100% 0/0" in capsys.readouterr().err


def test_a_bar_of_the_callers_is_closed_on_errors_too() -> None:
    events = []

    class Bar:
        def __init__(self, *, total, desc) -> None:
            events.append((total, desc))

        def update(self, count) -> None:
            events.append(count)

        def close(self) -> None:
            events.append("closed")

    def fail() -> None:
        with ProgressBar(2, Bar, "score") as progress:
            progress.update(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert events == [(2, "score"), 1, "closed"]
