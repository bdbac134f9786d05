"""`embedge pack | add | rm`: a bundle becomes one file, comes into the store, and leaves it."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from embedge import store
from embedge.cli._console import size
from embedge.cli._parser import Parser
from embedge.errors import BundleError

_REDRAWN_EACH_S = 0.1


def add_parsers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `pack`, `add` and `rm`."""
    pack = commands.add_parser(
        "pack",
        help="write a bundle as one file",
        description="Write a bundle as one file, the same bytes each time: embedge add takes it.",
    )
    pack.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or its name in the store")
    pack.add_argument(
        "-o", "--output", metavar="FILE", help="NAME.embedge (default: the bundle's name, here)"
    )
    pack.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    pack.set_defaults(run=run_pack)

    add = commands.add_parser(
        "add",
        help="bring a bundle into the store",
        description="Bring a bundle into the store. It is there whole, with every hash compared, or not at all. A "
        "download that was broken off goes on where it stopped.",
    )
    add.add_argument(
        "what",
        metavar="WHAT",
        help="an archive, a folder, the https URL of an archive, or ORG/MODEL[@REVISION] of a hub",
    )
    add.add_argument("--name", metavar="NAME", help="in the store (default: the bundle's own)")
    add.add_argument(
        "--fingerprint", metavar="F", help="refuse any bundle but this one; its first 12 digits or more"
    )
    add.add_argument("--force", action="store_true", help="replace another bundle of this name")
    add.set_defaults(run=run_add)

    remove = commands.add_parser("rm", help="remove bundles from the store")
    remove.add_argument("name", metavar="BUNDLE", nargs="+", help="its name, as embedge list shows it")
    remove.set_defaults(run=run_rm)


def run_pack(args: argparse.Namespace) -> int:
    """Write the archive; its path goes to stdout."""
    from embedge import archive

    name = store.find(args.bundle).name
    with _bar("packed") as progress:
        written = archive.pack(
            args.bundle,
            args.output or f"{name}{store.ARCHIVE_SUFFIX}",
            overwrite=args.overwrite,
            progress=progress,
        )
    print(written)
    return 0


def run_add(args: argparse.Namespace) -> int:
    """Bring it; its folder goes to stdout, its fingerprint to stderr."""
    from embedge import archive
    from embedge.manifest import load_manifest

    with _bar("of it here") as progress:
        folder = archive.add(
            args.what, name=args.name, fingerprint=args.fingerprint, force=args.force, progress=progress
        )
    print(folder)
    if args.fingerprint is None:
        print(
            f"fingerprint {load_manifest(folder).fingerprint}: compare it with what its maker states",
            file=sys.stderr,
        )
    return 0


def run_rm(args: argparse.Namespace) -> int:
    """Remove; each folder goes to stdout."""
    for name in args.name:
        if Path(name).is_dir() and not (store.home() / name).is_dir():
            raise BundleError(
                f"{name} is a folder outside of the store {store.home()}; expected a name in it."
            )
        print(store.remove(name))
    return 0


@contextlib.contextmanager
def _bar(words: str) -> Iterator[Callable[[int, int], None] | None]:
    """A line of progress on a terminal, gone at the end."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    drawn = 0.0

    def draw(done: int, total: int) -> None:
        nonlocal drawn
        if time.monotonic() - drawn < _REDRAWN_EACH_S:
            return
        drawn = time.monotonic()
        of = f"{done / total:4.0%} of {size(total)}" if total else size(done)
        sys.stderr.write(f"\r{of} {words}\x1b[K")
        sys.stderr.flush()

    try:
        yield draw
    finally:
        if drawn:
            sys.stderr.write("\r\x1b[K")
