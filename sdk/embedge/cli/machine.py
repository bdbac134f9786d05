"""`embedge bench | doctor`: how fast a bundle is on this machine, and what this machine offers."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from embedge import store
from embedge._engine.replayed import refused_here
from embedge._machine.cpu import available_threads, cpu_features, cpu_name, processor_quota
from embedge._machine.memory import available_memory_bytes, group_memory_bytes
from embedge._sessions.cuda import cuda_problem
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.products import EXACT_INT8, graph_features
from embedge._sessions.tuning import TuningRecord, default_tuning, save_tuning
from embedge._version import __version__
from embedge.cli._console import accent, bold, dim, print_facts, print_json, print_table, size
from embedge.cli._parser import Parser
from embedge.errors import BundleError, EmbedgeError, PromptError
from embedge.measure import fastest, measure_latency, measure_splits, sample_texts
from embedge.model import EdgeModel

_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "tokenizers", "msgspec")
_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_QUERY_WORDS = 10


def add_parsers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `bench` and `doctor`."""
    bench = commands.add_parser(
        "bench",
        help="measure a bundle on this machine's CPU",
        description="Time one text at a time, and many by each split into workers, threads and batch sizes.",
    )
    bench.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or its name in the store")
    bench.add_argument(
        "--variant", default="auto", metavar="NAME", help='graph to run, as "embedge inspect" lists them'
    )
    bench.add_argument(
        "--threads", type=int, metavar="N", help="processors to use; default: all that are available"
    )
    bench.add_argument("--texts", type=Path, metavar="FILE", help="one text per line; default: Python's docs")
    bench.add_argument("--count", type=int, default=400, metavar="N", help="how many texts (default 400)")
    bench.add_argument(
        "--save",
        action="store_true",
        help="keep the fastest split in the store; loading this bundle on this machine uses it from then on",
    )
    bench.add_argument("--json", action="store_true", help="the figures as JSON")
    bench.set_defaults(run=run_bench)

    doctor = commands.add_parser("doctor", help="show what embedge finds on this machine")
    doctor.add_argument("--json", action="store_true", help="the findings as JSON")
    doctor.set_defaults(run=run_doctor)


def run_bench(args: argparse.Namespace) -> int:
    """Measure, show, and save if asked."""
    texts = _texts(args.texts, args.count)
    with EdgeModel(
        args.bundle, device="cpu", variant=args.variant, threads=args.threads, truncate_prompt_tokens=-1
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
    if saved is not None:
        print(f"saved to {saved}", file=sys.stderr)
    elif best.tuning != default_tuning(info.threads):
        print(accent("--save keeps the best split for this machine"), file=sys.stderr)
    return 0


def run_doctor(args: argparse.Namespace) -> int:
    """Show the findings; fails where onnxruntime cannot be imported."""
    findings = _findings()
    if args.json:
        print_json(findings)
    else:
        print_facts([(name, _words(value)) for name, value in findings.items()])
    return 0 if "providers" in findings else 1


def _findings() -> dict[str, Any]:
    threads, quota = available_threads(), processor_quota()
    free, granted = available_memory_bytes(), group_memory_bytes()
    stated = os.environ.get(_TELEMETRY)
    found: dict[str, Any] = {
        "embedge": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}",
        "packages": {name: each for name in _PACKAGES if (each := _version(name)) is not None},
        "exporter": _has("embedge_export") and _has("torch"),
        "cpu": cpu_name(),
        "cpu features": list(cpu_features()),
        "threads": threads,
        "processors": os.cpu_count(),
        "cgroup quota": quota,
        "free memory": None if free is None else size(free),
        "of a cgroup's limit": None if granted is None else size(granted),
        **_store(),
        "telemetry": _telemetry(stated),
    }
    try:
        ort = import_onnxruntime()
    except EmbedgeError as error:
        return found | {"onnxruntime": str(error)}
    return found | {
        "providers": list(ort.get_available_providers()),
        "8-bit products": "exact"
        if EXACT_INT8 in graph_features()
        else "overflow here; uint8 runs in place of int8",
        "cuda": cuda_problem() or "usable",
        **({} if found["bundles"] is None else {"refused variants": _refused()}),
    }


def _store() -> dict[str, Any]:
    try:
        return {
            "store": str(store.home()),
            "bundles": [store.name_of(folder) for folder in store.list_bundles()],
        }
    except BundleError as error:
        return {"store": str(error), "bundles": None}


def _refused() -> list[str]:
    return [f"{each.bundle} {each.variant} ({each.outcome})" for each in refused_here()]


def _telemetry(stated: str | None) -> str:
    if stated is not None:
        return f"left to {_TELEMETRY}={stated}"
    # the variable is read when onnxruntime is imported, which another program may do before embedge
    return f"off, set by embedge; a program that imports onnxruntime first has to set {_TELEMETRY}=1 itself"


def _texts(file: Path | None, count: int) -> list[str]:
    if file is None:
        return sample_texts(max(1, count))
    try:
        lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise PromptError(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from error
    if not lines:
        raise PromptError(f"{file} holds no line; expected one text per line")
    return [lines[i % len(lines)] for i in range(max(1, count))]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return "installed" if value else "not installed"
    return "none" if value is None else str(value)
