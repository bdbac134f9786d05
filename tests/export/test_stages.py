"""Stages of an export: what they tell, and how it looks on a terminal and elsewhere."""

from __future__ import annotations

import io
import logging
import time

import pytest

from embedge_export.progress import PromptBar, Stages, Step, part, tracked
from embedge_export.stage_lines import shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(stream: io.StringIO) -> list[str]:
    """What a terminal shows: a carriage return goes back to the start of the line, and text overwrites."""
    lines = []
    for line in stream.getvalue().split("\n"):
        cells: list[str] = []
        for piece in line.split("\r"):
            cells[: len(piece)] = piece
        lines.append("".join(cells).rstrip())
    return lines


def shares(run) -> list[float]:
    told: list[Step] = []
    stages = Stages(told.append)
    assert stages.run("work", lambda: (run(), "done")) is None
    assert [step.stage for step in told] == ["work"] * len(told)
    assert told[0].share is None
    assert [step.finished for step in told] == [False] * (len(told) - 1) + [True]
    return [step.share for step in told[1:]]


def test_a_stage_tells_its_begin_and_its_end_with_the_outcome() -> None:
    told: list[Step] = []
    stages = Stages(told.append)
    assert stages.run("one", lambda count: (count, "three files"), 3) == 3
    stages.run("two", lambda: (None, ""))
    stages.finish("all")
    assert [(step.stage, step.finished, step.detail) for step in told] == [
        ("one", False, ""),
        ("one", True, "three files"),
        ("two", False, ""),
        ("two", True, ""),
        ("done", True, "all"),
    ]
    assert all(step.elapsed_s >= 0 for step in told)


def test_loops_within_loops_share_the_stage() -> None:
    def run() -> None:
        for _ in tracked("ab"):
            for _ in tracked([1, 2, 3, 4, 5]):
                pass

    assert shares(run) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])


def test_parts_and_prompts_count_within_their_part_and_never_backwards() -> None:
    def run() -> None:
        with part(0.0, 0.5):
            bar = PromptBar(total=4, desc="embed")
            bar.update(1)
            bar.update(3)
            bar.close()
            again = PromptBar(total=2, desc="embed")
            again.update(1)
        with part(0.5, 1.0):
            for _ in tracked("ab"):
                pass

    assert shares(run) == pytest.approx([0.125, 0.5, 0.75, 1.0, 1.0])


def test_a_stage_that_fails_is_not_finished_and_leaves_nothing_to_the_next() -> None:
    told: list[Step] = []
    stages = Stages(told.append)

    def fail() -> None:
        for _ in tracked("abc"):
            raise KeyError

    with pytest.raises(KeyError):
        stages.run("one", fail)
    assert not told[-1].finished
    told.clear()
    assert list(tracked("ab")) == ["a", "b"]
    PromptBar(total=1, desc="").update(1)
    assert told == []


def test_nobody_needs_to_listen() -> None:
    assert Stages(None).run("one", lambda: (list(tracked([])), "")) == []
    assert Stages(None).run("one", lambda: (list(tracked("ab")), "")) == ["a", "b"]


def test_a_file_gets_one_line_for_each_finished_stage() -> None:
    stream = io.StringIO()
    with shown(stream) as progress:
        stages = Stages(progress)
        stages.run("trace", lambda: (list(tracked("ab")), "451 nodes"))
        stages.finish("bundle")
    lines = stream.getvalue().splitlines()
    assert [line.split(maxsplit=3)[0::3] for line in lines] == [["trace", "451 nodes"], ["done", "bundle"]]
    assert "\r" not in stream.getvalue()


def test_a_terminal_shows_a_bar_while_a_stage_runs_and_lines_of_the_finished_ones() -> None:
    stream = Terminal()
    with shown(stream) as progress:
        progress(Step(stage="verify", elapsed_s=2.0, share=0.5))
        assert screen(stream)[-1].startswith("verify      2.0 s  ████████████░░░░░░░░░░░░  50%")
        progress(Step(stage="verify", elapsed_s=3.0, share=1.0, finished=True, detail="64 texts"))
        progress(Step(stage="report", elapsed_s=0.0))
        assert "██████░░" in screen(stream)[-1]
        assert "%" not in screen(stream)[-1]
        progress(Step(stage="report", elapsed_s=0.2, share=1.0, finished=True, detail="report.html"))
    assert screen(stream) == ["verify      3.0 s  64 texts", "report      0.2 s  report.html", ""]


def test_the_clock_goes_on_without_news() -> None:
    stream = Terminal()
    with shown(stream) as progress:
        progress(Step(stage="trace", elapsed_s=60.0))
        before, stop_s = len(stream.getvalue()), time.monotonic() + 30
        while len(stream.getvalue()) == before and time.monotonic() < stop_s:
            time.sleep(0.01)
        assert screen(stream)[-1].startswith("trace      60.")
        assert len(stream.getvalue()) > before


def test_nothing_of_the_bar_stays_when_a_stage_fails() -> None:
    stream = Terminal()

    def fail() -> None:
        with shown(stream) as progress:
            progress(Step(stage="trace", elapsed_s=1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert screen(stream) == [""]


def test_warnings_stand_above_the_bar() -> None:
    stream = Terminal()
    logger = logging.getLogger("embedge_export.source.remote_code")
    with shown(stream) as progress:
        progress(Step(stage="source", elapsed_s=1.0, share=0.25))
        logger.warning("WARNING: running code of %s", "model")
        assert screen(stream)[0] == "WARNING: running code of model"
        assert screen(stream)[1].startswith("source      1.0 s  ██████░")
    assert screen(stream) == ["WARNING: running code of model", ""]
    assert logging.getLogger("embedge_export").handlers == []


def test_a_narrow_terminal_is_not_overrun(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    with shown(stream) as progress:
        progress(Step(stage="verify", elapsed_s=2.0, share=0.5))
        assert len(screen(stream)[-1]) <= 29
