"""`embedge inspect`: what a bundle holds, as its manifest states it."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path, PurePath

from embedge._contents.graph import read_graph
from embedge._engine.batch_memory import MOST_PREFIX_BYTES, batch_memory, load_bytes
from embedge._sessions.tuning import BATCH_TOKENS
from embedge.bundle import Bundle, open_bundle
from embedge.cli._console import accent, bold, print_facts, print_json, print_table, size, visible
from embedge.cli._parser import Parser
from embedge.errors import BundleError, EmbedgeError
from embedge.manifest import REPORT_FILE, Manifest, Variant


def add_parser(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `inspect`."""
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
    _tell_of_changed_sizes(bundle)
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


def _tell_of_changed_sizes(bundle: Bundle) -> None:
    for name, stated in bundle.manifest.files.items():
        found = _other_than(bundle, name, stated.size_bytes)
        if found:
            print(accent(f"{visible(name)} {found}; `embedge verify` looks at everything"), file=sys.stderr)


def _other_than(bundle: Bundle, name: str, size_bytes: int) -> str:
    """What a file is that is not as the manifest states; nothing outside of the bundle is looked at."""
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        return "would lie outside of the bundle"
    try:
        there = os.lstat(bundle.file(name))
    except (OSError, ValueError):
        return "is not there"
    if not stat.S_ISREG(there.st_mode):
        return "is no plain file"
    return (
        "" if there.st_size == size_bytes else f"has {there.st_size:,} bytes, not the {size_bytes:,} stated"
    )


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
