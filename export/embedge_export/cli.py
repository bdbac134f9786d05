"""`embedge export`: runs what the flags ask for, and shows its stages on stderr."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from embedge_export.flags import add_flags, check_usage, read_spec
from embedge_export.interrupts import kept_interrupts
from embedge_export.leftovers import no_compiler_folder
from embedge_export.progress import Listener, Step
from embedge_export.spec import ExportSpec
from embedge_export.stage_lines import shown


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command `export`."""
    parser = subparsers.add_parser(
        "export",
        help="convert a checkpoint to a verified bundle",
        description="Convert a Hugging Face or sentence-transformers checkpoint to a bundle, and verify it.",
    )
    add_flags(parser)
    parser.set_defaults(run=run, usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Export, and print the bundle's folder on stdout.

    Raises:
        EmbedgeError: the export failed; nothing was written.
    """
    check_usage(args)
    with no_compiler_folder():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    spec = read_spec(args)
    if args.dry_run and args.only_verify is None:
        return _show_plan(spec, as_json=args.json)
    with kept_interrupts() as check, _silent() if args.quiet else shown(sys.stderr) as show:

        def progress(step: Step) -> None:
            check()
            show(step)

        target = _action(args)(spec, progress)
    sys.stdout.write(f"{target}\n")
    return 0


@contextlib.contextmanager
def _silent() -> Iterator[Listener]:
    yield lambda _: None


def _action(args: argparse.Namespace) -> Callable[[ExportSpec, Listener | None], Path]:
    if args.only_verify is not None:
        from embedge_export.reverify import reverify

        return partial(reverify, write=not args.dry_run)
    from embedge_export.pipeline import export

    return export


def _show_plan(spec: ExportSpec, *, as_json: bool) -> int:
    import msgspec

    from embedge_export.dry_run import describe, plan_export

    plan = plan_export(spec)
    if as_json:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n")
    else:
        sys.stdout.write(describe(plan))
    return 0
