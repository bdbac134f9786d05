"""Entry point of `embedge`: the parser, exit codes, and errors as one sentence on stderr."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
import threading
from collections.abc import Iterable, Sequence

from embedge._starting import answer_again
from embedge._version import __version__
from embedge.cli import (
    bench,
    bundles,
    completion,
    inspect,
    judge,
    machine,
    passing,
    run,
    search,
    serve,
    vectors,
)
from embedge.cli._console import open_streams
from embedge.cli._examples import EXAMPLES
from embedge.cli._parser import Parser
from embedge.cli._words import in_words
from embedge.errors import EmbedgeError, MissingExtraError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
"""As shells have it: 128 and the number of SIGINT."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None takes them from the process.

    Returns:
        0, 1 where the command failed, or 130 where it was interrupted. Bad usage exits with 2 through argparse.
    """
    flags: Iterable[str] = ()
    try:
        if threading.current_thread() is threading.main_thread():
            answer_again()
        open_streams()
        arguments = sys.argv[1:] if argv is None else argv
        args = build_parser().parse_args(arguments or ["--help"])
        flags = args.command.flags
        status: int = args.run(args)
        sys.stdout.flush()
    except EmbedgeError as error:
        print(f"embedge: {in_words(str(error), flags)}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("embedge: interrupted; no file was left half written. Run the command again.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except MemoryError:
        print("embedge: the machine has no memory left for this. Pass less at a time.", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        _drop_stdout()  # the reader has gone (… | head)
        return EXIT_FAILED
    except OSError as error:
        if error.filename is None:
            _drop_stdout()  # what stdout goes to is full
        where = f"{error.filename}: " if error.filename else ""
        print(f"embedge: {where}{error.strerror or error}. {_advice(error)}", file=sys.stderr)
        return EXIT_FAILED
    return status


def build_parser() -> Parser:
    """Parser of every command."""
    parser = Parser(
        prog="embedge",
        description="Text embedding, classification and reranking from verified ONNX bundles.",
        epilog="`embedge COMMAND --help` has examples. Results go to stdout, progress and errors to stderr.",
    )
    parser.add_argument(
        "--version", action="version", version=f"embedge {__version__}", help="show it, and exit"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_export(commands)
    run.add_parsers(commands)
    judge.add_parsers(commands)
    search.add_parser(commands)
    vectors.add_parsers(commands)
    serve.add_parser(commands)
    inspect.add_parser(commands)
    bundles.add_parsers(commands)
    passing.add_parsers(commands)
    bench.add_parser(commands)
    machine.add_parser(commands)
    completion.add_parser(commands)
    for name, command in commands.choices.items():
        command.set_defaults(command=command)
        if name in EXAMPLES:
            command.epilog = "\n  ".join(("examples:", *EXAMPLES[name]))
    return parser


def _add_export(commands: argparse._SubParsersAction[Parser]) -> None:
    try:
        from embedge_export.cli import add_parser
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("embedge_export"):
            raise
        parser = commands.add_parser("export", help="convert a checkpoint (needs the extra embedge[export])")
        parser.add_argument("arguments", nargs=argparse.REMAINDER)
        parser.set_defaults(run=_refuse_export)
        return
    add_parser(commands)
    commands.choices["export"].fold("words of rerankers and reward models", "other ways, and what is shown")


def _drop_stdout() -> None:
    """Let the interpreter's last flush go nowhere, where it would fail once more."""
    with contextlib.suppress(io.UnsupportedOperation):  # no descriptor where stdout was replaced
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or write to another disk."
    return "Check the path and its permissions."


def _refuse_export(_: argparse.Namespace) -> int:
    raise MissingExtraError("the exporter is not installed. Install it with: pip install 'embedge[export]'")
