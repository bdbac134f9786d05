"""The command line while its modules are imported: Ctrl-C ends it without a word, as nothing was begun."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module signal takes time to import
import sys


def is_command(program: str, argv: list[str]) -> bool:
    """Whether this process is `embedge …` or `python -m embedge …`.

    Args:
        program: sys.argv[0], which is "-m" while a module is looked for.
        argv: of the interpreter, as sys.orig_argv.
    """
    if program != "-m":
        name = program.replace("\\", "/").rpartition("/")[2]
        return name in ("embedge", "embedge.exe")
    module = argv.index("-m") + 1
    return argv[module : module + 1] == ["embedge"]


def end_silently() -> None:
    """Let Ctrl-C end the process at once, until `answer_again`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def answer_again() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if is_command("".join(getattr(sys, "argv", [])[:1]), sys.orig_argv):
    end_silently()  # pragma: no cover (in the command line only)
