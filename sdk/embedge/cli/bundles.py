"""`embedge inspect | verify | list`: what a bundle is, whether it is sound here, which there are."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from embedge import store
from embedge._contents.graph import read_graph
from embedge._engine.batch_memory import MOST_PREFIX_BYTES, batch_memory, load_bytes
from embedge._engine.variant import why_unsuited
from embedge._sessions.tuning import BATCH_TOKENS
from embedge.bundle import Bundle, open_bundle
from embedge.cli._console import bold, print_facts, print_json, print_table, size, visible
from embedge.cli._parser import Parser
from embedge.errors import BundleError, EmbedgeError
from embedge.manifest import REPORT_FILE, Manifest, Variant, load_manifest
from embedge.verify import ProbeReport, verify


def add_parsers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `inspect`, `verify` and `list`."""
    inspect = commands.add_parser("inspect", help="show what a bundle holds")
    inspect.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or its name in the store")
    output = inspect.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="the manifest as JSON")
    output.add_argument(
        "--fingerprint", action="store_true", help="the fingerprint alone, which may be signed"
    )
    output.add_argument(
        "--report",
        action="store_true",
        help="print where the export's report is, and open it in a browser where there is a display",
    )
    inspect.set_defaults(run=run_inspect)

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


def run_inspect(args: argparse.Namespace) -> int:
    """Show the manifest."""
    bundle = open_bundle(args.bundle)
    manifest = bundle.manifest
    if args.json:
        print_json(manifest)
        return 0
    if args.fingerprint:
        print(manifest.fingerprint)
        return 0
    if args.report:
        return _show_report(bundle)
    print(bold(visible(manifest.name)))
    print_facts(_facts(bundle.folder, manifest))
    print()
    print_table(
        ("variant", "file", "dtype", "size", "raw |diff|", "raw cosine", "of texts", "end-to-end cosine"),
        [
            (
                name,
                spec.file,
                spec.dtype,
                size(sum(manifest.files[file].size_bytes for file in spec.files)),
                f"{spec.fidelity.max_abs_diff:.1e}" if spec.fidelity.num_texts else "not measured",
                "–" if spec.fidelity.cosine_min is None else f"{spec.fidelity.cosine_min:.7f}",
                str(spec.fidelity.num_texts),
                _end_to_end_cosine(spec),
            )
            for name, spec in manifest.variants.items()
        ],
    )
    for name, spec in manifest.variants.items():
        if spec.target == "cpu":
            print(f"{name} takes, beside Python, onnxruntime and the tokenizer, {_memory(bundle, spec)}")
        if spec.fidelity.accepted is not None:
            print(f"{name} was accepted though: {spec.fidelity.accepted}")
    return 0


def _memory(bundle: Bundle, variant: Variant) -> str:
    """What a session takes on the CPU."""
    manifest = bundle.manifest
    try:
        facts = read_graph(bundle.read(variant.file), variant.file)
        batch = batch_memory(variant, facts, limit_bytes=0)
    except EmbedgeError as error:
        return f"memory that is not known: {error}"
    read = sum(manifest.files[file].size_bytes for file in (variant.file, *variant.data_files))
    most, kept = load_bytes(variant, facts, read)
    seq_len = manifest.max_seq_len
    num_rows = max(1, BATCH_TOKENS // seq_len)
    texts = f"{num_rows} × {seq_len} tokens" if num_rows > 1 else f"{seq_len} tokens"
    return (
        f"about {size(most)} while it is loaded on the CPU, {size(kept)} then, and at most "
        f"{size(batch.needed_bytes(num_rows, seq_len))} for a batch of {texts}"
        + ("" if variant.prefix is None else f"; besides {size(MOST_PREFIX_BYTES)} at most for kept prefixes")
    )


def _end_to_end_cosine(variant: Variant) -> str:
    figures = variant.fidelity.end_to_end
    return "–" if figures is None or figures.cosine_min is None else f"{figures.cosine_min:.7f}"


def _show_report(bundle: Bundle) -> int:
    path = bundle.folder / REPORT_FILE
    if not path.is_file():
        raise BundleError(
            f"bundle {bundle.manifest.name!r} has no {REPORT_FILE}; expected one written by the exporter. "
            "Export the model again."
        )
    print(path)
    if _has_display():
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return 0


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


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


def _facts(folder: Path, manifest: Manifest) -> list[tuple[str, str]]:
    pooling = "+".join(manifest.pooling.modes) if manifest.pooling else "none"
    before = "".join(f"{module.words} → " for module in manifest.modules if module.per_token)
    after = "".join(f" → {module.words}" for module in manifest.modules if not module.per_token)
    facts = [
        ("folder", str(folder)),
        *([("version", manifest.version)] if manifest.version else []),
        ("architecture", manifest.architecture),
        ("tasks", ", ".join(manifest.tasks)),
        ("pooling", f"{before}{pooling}{after}{' → normalised' if manifest.normalize else ''}"),
    ]
    if manifest.embedding_size is not None:
        facts.append(
            ("embedding", f"{manifest.embedding_size} components, compared by {manifest.similarity}")
        )
    if manifest.tower is not None:
        others = f", {', '.join(manifest.towers)}" if manifest.towers else ", one of a model's"
        facts.append(("tower", manifest.tower + others))
    if manifest.matryoshka:
        listed = manifest.matryoshka if isinstance(manifest.matryoshka, tuple) else ()
        sizes = ", ".join(map(str, listed)) or "any size"
        facts.append(("matryoshka", sizes))
    if manifest.head is not None:
        facts.append(("labels", f"{', '.join(manifest.head.labels)} ({manifest.head.activation})"))
    if manifest.prompts:
        default = manifest.default_prompt_name
        names = (f"{n} (default)" if n == default else n for n in manifest.prompts)
        facts.append(("prompts", ", ".join(names)))
    facts += [
        ("limit", f"{manifest.max_seq_len} tokens, special tokens included"),
        ("vocabulary", f"{manifest.vocab_size:,} token ids"),
        (
            "source",
            manifest.source.name + (f" at {manifest.source.revision}" if manifest.source.revision else ""),
        ),
        ("licence", manifest.source.licence or "not stated"),
        (
            "compared with",
            "answers given in a file" if manifest.reference is None else manifest.reference.words,
        ),
        ("witness", "none" if manifest.witness is None else manifest.witness.words),
        ("exported with", ", ".join(f"{name} {version}" for name, version in manifest.exporter.items())),
        ("fingerprint", manifest.fingerprint),
        *(("assumed", what) for what in manifest.assumed),
    ]
    return facts
