"""`embedge bench`: a bundle beside other libraries on this machine, or the ways to split its calls."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from embedge._engine.options import LoadOptions
from embedge._machine.cpu import available_threads, cpu_name
from embedge._peers.checkpoints import find_checkpoint
from embedge._peers.figures import Comparison
from embedge._peers.page import MARK
from embedge._peers.picture import Setting, conditions, cosine_words, draw_page, draw_svg, memory_words, notes
from embedge._peers.rounds import Texts, compare
from embedge._peers.subjects import other_subjects, own_subjects
from embedge._replacing import replace_whole
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.tuning import TuningRecord, default_tuning, save_tuning
from embedge._version import __version__
from embedge.bundle import Bundle, open_bundle
from embedge.cli._console import accent, bold, dim, print_json, print_table
from embedge.cli._parser import Parser
from embedge.errors import BundleError, ParamsError, PromptError, TaskNotSupportedError
from embedge.measure import SplitSpeed, fastest, measure_latency, measure_splits, sample_texts
from embedge.model import EdgeModel

_QUERY_WORDS = 10
_PASSAGES = 2000
_SPLIT_TEXTS = 400
_LEAST_S, _MOST_S = 5.0, 600.0


def add_parser(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `bench`."""
    bench = commands.add_parser(
        "bench",
        help="measure a bundle on this machine's CPU, beside other libraries",
        description="Time a bundle's variants beside the libraries that are installed here and can run the same "
        "model offline (sentence-transformers, fastembed, light-embed, onnxruntime), in under a minute, and draw it.",
    )
    bench.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or its name in the store")
    bench.add_argument("-o", "--output", type=Path, metavar="FILE", help="picture: .html (default) or .svg")
    bench.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        help="what the bundle was exported from, or its hub id; default: what the hub's cache has of it",
    )
    bench.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PYTHON",
        help="interpreter of another environment, whose libraries are asked, too; may be given again",
    )
    bench.add_argument("--variant", metavar="NAME", help="the only variant to run; default: all for the CPU")
    bench.add_argument(
        "--threads", type=int, metavar="N", help="processors to use; default: all that are available"
    )
    bench.add_argument("--texts", type=Path, metavar="FILE", help="one text per line; default: Python's docs")
    bench.add_argument("--count", type=int, metavar="N", help="texts at most; default: what the time allows")
    bench.add_argument(
        "--seconds", type=float, default=50.0, metavar="S", help="for all of it (default: %(default)g)"
    )
    bench.add_argument(
        "--splits",
        action="store_true",
        help="time each split into workers, threads and batch sizes, and no other library",
    )
    bench.add_argument(
        "--save",
        action="store_true",
        help="--splits, and keep the fastest in the store; loading this bundle on this machine uses it from then on",
    )
    bench.add_argument("--json", action="store_true", help="the figures as JSON; no picture without -o")
    bench.instead = {"--device": "bench measures the CPU alone."}
    bench.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Measure, show, and save if asked."""
    if args.count is not None and args.count < 1:
        raise ParamsError(f"--count {args.count} is out of range; expected an int >= 1")
    return _run_splits(args) if args.splits or args.save else _run_comparison(args)


def _run_comparison(args: argparse.Namespace) -> int:
    if not sys.executable or getattr(sys, "frozen", False):
        raise ParamsError(
            "bench asks each library in a process of its own, and this program is no Python interpreter that could "
            "begin one; --splits works here"
        )
    bundle = open_bundle(args.bundle)
    manifest = bundle.manifest
    if "embed" not in manifest.tasks:
        raise TaskNotSupportedError(
            f"bench compares embeddings, and bundle {manifest.name!r} answers {', '.join(manifest.tasks)}; "
            "--splits times it by itself",
            task="embed",
            tasks=manifest.tasks,
        )
    if not _LEAST_S <= args.seconds <= _MOST_S:
        raise ParamsError(f"--seconds {args.seconds:g} is out of range; expected {_LEAST_S:g} to {_MOST_S:g}")
    output = _output(args, manifest.name)
    passages = _texts(args.texts, args.count or _PASSAGES)
    texts = Texts(short=[" ".join(text.split()[:_QUERY_WORDS]) for text in passages], passages=passages)
    comparison = _compared(args, bundle, texts)
    setting = Setting(
        name=manifest.name, cpu=cpu_name(), threads=_threads(args), date=time.strftime("%d %B %Y")
    )
    # first the figures, which a picture that cannot be written takes nothing from
    if args.json:
        print_json({"setting": setting, "comparison": comparison, "picture": output and str(output)})
    else:
        _show(comparison, setting)
    if output is not None:
        draw = draw_svg if output.suffix.lower() == ".svg" else draw_page
        replace_whole(output, draw(comparison, setting).encode())
        print(f"wrote {output}", file=sys.stderr)
    return 0


def _compared(args: argparse.Namespace, bundle: Bundle, texts: Texts) -> Comparison:
    threads = _threads(args)
    own = own_subjects(bundle, [args.variant] if args.variant else [], threads, f"embedge {__version__}")
    progress = _Line()
    progress.show("looking for the checkpoint and for other libraries")
    checkpoint = find_checkpoint(bundle.manifest.source, args.checkpoint)
    with tempfile.TemporaryDirectory(prefix="embedge-bench-") as empty:
        others, left_out = other_subjects(
            bundle, checkpoint, (sys.executable, *args.python), threads, Path(empty)
        )
        try:
            return compare(
                [*own, *others],
                texts,
                folder=Path(empty),
                seconds=args.seconds,
                weights_bytes=max(
                    sum(bundle.manifest.files[file].size_bytes for file in spec.files)
                    for spec in bundle.manifest.variants.values()
                ),
                left_out=left_out,
                progress=progress.show,
            )
        finally:
            progress.clear()


class _Line:
    """What goes on, in the last line of a terminal."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def show(self, words: str) -> None:
        """Replace what is there."""
        if sys.stderr.isatty():
            seconds = time.perf_counter() - self._began
            print(f"\r\033[K{seconds:3.0f} s  {words}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave an empty line."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _threads(args: argparse.Namespace) -> int:
    return LoadOptions(threads=args.threads).threads or available_threads()


def _output(args: argparse.Namespace, name: str) -> Path | None:
    """Where the picture goes; refuses a file that is another's."""
    if args.output is None:
        if args.json:
            return None
        output = Path(f"{''.join(c if c.isalnum() or c in '._-' else '-' for c in name)}-bench.html")
    else:
        output = args.output
    if output.suffix.lower() not in (".html", ".htm", ".svg"):
        raise ParamsError(f"-o {output} is neither .html nor .svg; expected a name as in bench.svg")
    if not output.parent.is_dir():
        raise ParamsError(
            f"-o {output} cannot be written: there is no folder {output.parent}; expected one that is there"
        )
    if output.is_dir():
        raise ParamsError(f"-o {output} is a folder; expected a file, as in {output / 'bench.html'}")
    if not os.access(output.parent, os.W_OK):
        raise ParamsError(
            f"-o {output} cannot be written: its folder is not writable; expected another one with -o"
        )
    if output.exists() and MARK not in output.read_text("utf-8", errors="replace")[:200]:
        raise BundleError(
            f"{output} is there already, and bench did not write it; expected another name with -o"
        )
    return output


def _show(comparison: Comparison, setting: Setting) -> None:
    print(bold(setting.name) + dim(f"  {conditions(comparison, setting)}"))
    print()
    print_table(
        ("", "one text", "short/s", "passages/s", "start", "memory", "vectors"),
        [
            (
                each.label,
                f"{each.query_ms.median:.2f} ms",
                f"{each.short_per_s.median:,.0f}",
                f"{each.passages_per_s.median:,.0f}",
                f"{each.start_s:.2f} s",
                memory_words(each),
                cosine_words(each, comparison.reference),
            )
            for each in comparison.measured
        ],
    )
    print()
    for note in notes(comparison):
        print(dim(note))


def _run_splits(args: argparse.Namespace) -> int:
    texts = _texts(args.texts, args.count or _SPLIT_TEXTS)
    with EdgeModel(
        args.bundle,
        device="cpu",
        variant=args.variant or "auto",
        threads=args.threads,
        truncate_prompt_tokens=-1,
    ) as model:
        info = model.info
        query = " ".join(texts[0].split()[:_QUERY_WORDS])
        latency = measure_latency(lambda: len(model.encode(query)[0].prompt_token_ids), seconds=1.0)
        speeds = []
        for speed in measure_splits(model, texts):
            speeds.append(speed)
            if sys.stderr.isatty():
                print(
                    f"{speed.tuning.workers} x {speed.tuning.threads_per_worker}, "
                    f"{speed.tuning.batch_tokens} tokens: {speed.texts_per_s:,.0f} texts/s",
                    file=sys.stderr,
                )
    best = fastest(speeds, default_tuning(info.threads))
    record = TuningRecord(
        fingerprint=info.fingerprint,
        variant=info.variant,
        cpu=cpu_name(),
        onnxruntime=str(import_onnxruntime().__version__),
        threads=info.threads,
        tuning=best.tuning,
        texts_per_s=best.texts_per_s,
    )
    saved = save_tuning(record) if args.save else None
    if args.json:
        print_json({"record": record, "latency": latency, "speeds": speeds, "saved": saved and str(saved)})
        return 0
    print(bold(f"{info.name}  {info.variant}") + dim(f"  {info.threads} threads of {record.cpu}"))
    print(
        f"one text of {latency.num_tokens} tokens: p50 {latency.p50_ms:.2f} ms, p95 {latency.p95_ms:.2f} ms"
    )
    print()
    _show_splits(speeds, best)
    if saved is not None:
        print(f"saved to {saved}", file=sys.stderr)
    elif best.tuning != default_tuning(info.threads):
        print(accent("--save keeps the best split for this machine"), file=sys.stderr)
    return 0


def _show_splits(speeds: list[SplitSpeed], best: SplitSpeed) -> None:
    print_table(
        ("workers", "threads each", "batch tokens", "texts/s", "tokens/s", ""),
        [
            (
                str(speed.tuning.workers),
                str(speed.tuning.threads_per_worker),
                str(speed.tuning.batch_tokens),
                f"{speed.texts_per_s:,.0f}",
                f"{speed.tokens_per_s:,.0f}",
                "best" if speed is best else "",
            )
            for speed in speeds
        ],
    )


def _texts(file: Path | None, count: int) -> list[str]:
    if file is None:
        return sample_texts(count)
    try:
        lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise PromptError(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from error
    if not lines:
        raise PromptError(f"{file} holds no line; expected one text per line")
    return [lines[i % len(lines)] for i in range(count)]
