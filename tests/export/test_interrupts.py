"""Ctrl-C, as a signal to a real process."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from embedge_export.interrupts import kept_interrupts, put_off_interrupts

pytestmark = pytest.mark.usefixtures("interruptible")


def test_an_interrupt_waits_for_the_end_of_the_block():
    finished = []

    def block():
        with put_off_interrupts():
            signal.raise_signal(signal.SIGINT)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored():
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with put_off_interrupts():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)


def test_other_threads_change_nothing():
    seen = []

    def enter():
        with put_off_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_an_interrupt_that_a_destructor_swallows_is_kept(capsys):
    class Interrupted:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    usual_hook = sys.unraisablehook
    with kept_interrupts() as check:
        check()
        interrupted = Interrupted()
        del interrupted
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sys.unraisablehook is usual_hook
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a group of consoles")
@pytest.mark.parametrize("stage", ["source", "write"])
def test_ctrl_c_ends_the_command_with_one_sentence_and_leaves_nothing(tiny_bert, tmp_path, stage):
    """Sent during the stage after `stage`: the trace, and the verification."""
    command = [
        sys.executable,
        "-m",
        "embedge",
        "export",
        str(tiny_bert),
        "-o",
        str(tmp_path / "out"),
    ]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for line in process.stderr:
            if line.startswith(stage):
                os.kill(process.pid, signal.SIGINT)
                break
        else:
            pytest.fail(f"the stage {stage} was not reported")
        printed, reported = process.communicate()
    assert process.returncode == 130
    assert printed == ""
    assert reported.splitlines()[-1].startswith("embedge: interrupted; no file was left half written")
    assert "Traceback" not in reported
    assert list(tmp_path.iterdir()) == []
