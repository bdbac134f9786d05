"""The end of a process and its forks, each in a process of its own; and what the end does to threads."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.sdk.exits import COMMANDS, EXITS, FORKS, bundle_for, interrupt, leave, section, write_texts

from embedge import EdgeModel, _lifetime, _starting
from embedge.cli.main import main
from embedge.errors import SessionError
from embedge.testing import tiny_bundle


@pytest.fixture(scope="module")
def left(request, tmp_path_factory):
    """What went wrong in the ways that are tested, by name; two processes at a time, as each mostly waits."""
    folder = tiny_bundle(tmp_path_factory.mktemp("left"))
    here = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    names = [item.callspec.params["name"] for item in here if "left" in item.fixturenames]
    pool = ThreadPoolExecutor(2)
    yield {name: pool.submit(leave, name, folder) for name in names}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", EXITS)
def test_a_process_ends_without_a_word(name, left) -> None:
    assert left[name].result() == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("name", FORKS)
def test_a_forked_child_works_and_ends(name, left) -> None:
    assert left[name].result() == ""


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
@pytest.mark.parametrize(("name", "delay_s"), [("encode", 0.08), ("rerank", 0.4), ("search", 0.5)])
def test_ctrl_c_ends_a_command_without_a_traceback(name, delay_s, tmp_path) -> None:
    assert interrupt(name, tmp_path, delay_s) == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_that_ctrl_c_is_pressed_in_work(name, tmp_path, monkeypatch, capsys) -> None:
    """With bundles of their kind, so that Ctrl-C does not meet a refusal."""
    texts = write_texts(tmp_path, 3)
    command = [part.format(bundle=bundle_for(name, tmp_path), **texts) for part in COMMANDS[name]]
    fewer = ["10" if part == "100000" else part for part in command]
    with Path(texts["lines"]).open() as lines:
        monkeypatch.setattr("sys.stdin", lines)
        assert main(fewer) == 0, capsys.readouterr().err


def test_what_was_seen_of_exits_is_stated_of_all_of_them() -> None:
    names = (*EXITS, *FORKS, *(f"Ctrl-C in {name}" for name in COMMANDS))
    found: dict[str, list[str]] = {name: [] for name in names}
    found["SIGTERM"] = ["hangs", "status -6: abort"]
    found["Ctrl-C in rerank"] = ["status 1: a traceback"]
    written = section(found, 3)
    assert all(name in written for name in names)
    assert f"| {len(EXITS)} | {3 * len(EXITS)} | 1 | 1 | 0 |" in written
    assert f"| {len(FORKS)} | {3 * len(FORKS)} | 0 | 0 | 0 |" in written
    assert f"| {len(COMMANDS)} | {3 * len(COMMANDS)} | 0 | 0 | 1 |" in written
    assert written.endswith("- SIGTERM: 2 of 3\n- Ctrl-C in rerank: 1 of 3")


@pytest.mark.parametrize(
    ("program", "argv", "is_ours"),
    [
        ("-m", ["python", "-m", "embedge", "encode"], True),
        ("-m", ["python", "-W", "error", "-m", "embedge"], True),
        ("/usr/bin/embedge", ["python", "/usr/bin/embedge", "list"], True),
        ("-m", ["python", "-m", "pytest", "embedge"], False),
        ("app.py", ["python", "app.py", "-m", "embedge"], False),
        ("", ["python"], False),
    ],
)
def test_the_command_line_is_told_from_other_programs(program, argv, is_ours) -> None:
    assert _starting.is_command(program, argv) == is_ours


def test_ctrl_c_while_a_command_is_imported() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _starting.end_silently()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        _starting.answer_again()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
        _starting.end_silently()
        _starting.answer_again()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def life(monkeypatch):
    """The end of a process, without ending this one."""
    made = _lifetime._Lifetime()
    monkeypatch.setattr(_lifetime, "_LIFE", made)
    return made


def test_the_end_waits_for_what_is_outside(life) -> None:
    inside, leave_now, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with _lifetime.outside_python():
            inside.set()
            leave_now.wait(10)

    worker = threading.Thread(target=work)
    worker.start()
    assert inside.wait(10)
    end = threading.Thread(target=lambda: (life.end(), ended.set()))
    end.start()
    assert not ended.wait(0.1)
    leave_now.set()
    assert ended.wait(10)
    worker.join()
    end.join()


def test_after_the_end_only_the_main_thread_goes_outside(life) -> None:
    life.end()
    went: list[str] = []

    def work() -> None:
        with pytest.raises(SystemExit):  # which ends a thread without a word
            with _lifetime.outside_python():
                went.append("thread")
        went.append("refused")

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    with _lifetime.outside_python():
        went.append("main")
    assert went == ["refused", "main"]
    with pytest.raises(SystemExit):
        _lifetime.begin_thread(lambda: None, "late")


def test_a_model_answers_without_threads_when_the_process_ends(life, tiny) -> None:
    texts = ["the river " * (1 + i % 9) for i in range(300)]
    with EdgeModel(tiny(), device="cpu", threads=2, truncate_prompt_tokens=-1) as model:
        before = model.embed(texts).numpy()
        life.end()
        begun = threading.active_count()
        assert (model.embed(texts).numpy() == before).all()
        assert len(list(model.stream(texts, window=32))) == 300
        assert threading.active_count() == begun


def test_a_finalising_interpreter_is_named(monkeypatch, tiny) -> None:
    with EdgeModel(tiny(), device="cpu") as model:
        monkeypatch.setattr("sys.is_finalizing", lambda: True)
        with pytest.raises(SessionError, match="interpreter is shutting down"):
            model.embed("a text")
        monkeypatch.undo()
        model.embed("a text")
