"""`embedge inspect | verify | list`: what a bundle is, whether it is sound here, which there are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from embedge import store
from embedge._engine.variant import why_unsuited
from embedge.bundle import open_bundle
from embedge.cli._console import print_json, print_table, size
from embedge.cli._parser import Parser
from embedge.errors import BundleError
from embedge.manifest import Manifest, load_manifest
from embedge.verify import ProbeReport, verify


def add_parsers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `verify` and `list`."""
    check = commands.add_parser(
        "verify",
        help="check a bundle's hashes and probes",
        description="Check every hash, then replay the probes here.",
    )
    check.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or its name in the store")
    check.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help='"cpu", "cuda", "cuda:N", "openvino" or "auto" (default)',
    )
    check.add_argument(
        "--variant", action="append", default=[], metavar="NAME", help="only this variant; may be repeated"
    )
    check.add_argument(
        "--signature", metavar="FILE", help="minisign's, of what `embedge inspect --fingerprint` prints"
    )
    check.add_argument(
        "--public-key", metavar="KEY", help="minisign's, as a file or as its line that begins with RW"
    )
    check.add_argument("--json", action="store_true", help="the reports as JSON")
    check.set_defaults(run=run_verify)

    listing = commands.add_parser("list", help="list the bundles in the store")
    output = listing.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="the list as JSON")
    output.add_argument("--names", action="store_true", help="the names alone, one on each line")
    listing.set_defaults(run=run_list)


def run_verify(args: argparse.Namespace) -> int:
    """Check hashes and probes; fails where a probe is off."""
    reports = verify(
        args.bundle,
        device=args.device,
        variants=tuple(args.variant),
        signature=args.signature,
        public_key=args.public_key,
    )
    manifest = open_bundle(args.bundle).manifest
    replayed = {report.variant for report in reports}
    left_out = [] if args.variant else [name for name in manifest.variants if name not in replayed]
    if args.json:
        print_json([{**msgspec.to_builtins(report), "passed": report.passed} for report in reports])
    else:
        if args.signature is not None:
            print(f"the fingerprint {manifest.fingerprint[:12]}… is signed by the owner of the key")
        print(f"{len(manifest.files)} files have the size and sha256 of the manifest")
        for report in reports:
            verdict = "passed" if report.passed else "FAILED"
            print(
                f"{_words_of(report)}: {report.num_probes} probes {verdict}, "
                f"max |diff| {report.max_abs_diff:.1e} (allowed {report.tolerance:.0e}){_lacks(report)}"
            )
        for name in left_out:
            print(f"{name}: not replayed, as {why_unsuited(manifest.variants[name], args.device)}")
    failed = [report.variant for report in reports if not report.passed]
    if failed:
        print(
            f"embedge: variant {', '.join(failed)} does not compute here what it computed at export. "
            "Use another variant, or another onnxruntime version.",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _lacks(report: ProbeReport) -> str:
    return f"; this processor lacks {', '.join(report.lacks)}" if report.lacks else ""


def _words_of(report: ProbeReport) -> str:
    """What was replayed; of a tower alone, as of any other model, the variant."""
    return report.variant if report.tower is None else f"{report.variant}, {report.tower} tower"


def run_list(args: argparse.Namespace) -> int:
    """List the store."""
    if args.names:
        for folder in store.list_bundles():
            print(store.name_of(folder))
        return 0
    found = [(folder, _manifest_or_error(folder)) for folder in store.list_bundles()]
    if args.json:
        print_json(
            [
                {"name": store.name_of(folder), "path": str(folder)}
                | (
                    {"error": m}
                    if isinstance(m, str)
                    else {"version": m.version, "tasks": m.tasks, "fingerprint": m.fingerprint}
                )
                for folder, m in found
            ]
        )
        return 0
    if not found:
        print(f"no bundles in {store.home()}. Make one with: embedge export MODEL", file=sys.stderr)
        return 0
    print_table(
        ("name", "version", "tasks", "variants", "size", "fingerprint"),
        [
            (store.name_of(folder), "", "not readable", "", "", "")
            if isinstance(m, str)
            else (
                store.name_of(folder),
                m.version or "",
                ", ".join(m.tasks),
                ", ".join(m.variants),
                size(sum(record.size_bytes for record in m.files.values())),
                m.fingerprint[:12],
            )
            for folder, m in found
        ],
    )
    return 0


def _manifest_or_error(folder: Path) -> Manifest | str:
    try:
        return load_manifest(folder)
    except BundleError as error:
        return str(error)
