"""`python -m benchmarks.vectors`: search over saved rows in every precision: time, memory, and what is found.

The rows are drawn around centres, as texts lie around topics; each precision runs in a process of its own, on mapped
rows, with sentence-transformers' quantize_embeddings as what packs them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.machine import machine
from embedge import __version__
from embedge.corpus import Sidecar, Vectors

PRECISIONS = ("float32", "float16", "int8", "binary")
DIMENSIONS = 384
QUESTIONS = 30
TOP = 10


def write(folder: Path, num_rows: int) -> None:
    """Rows in each precision, and questions near some of them."""
    from sentence_transformers.util import quantize_embeddings

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(2000, DIMENSIONS)).astype(np.float32)
    rows = np.empty((num_rows, DIMENSIONS), dtype=np.float32)
    for start in range(0, num_rows, 50_000):
        some = rows[start : start + 50_000]
        some[:] = centres[rng.integers(0, 2000, len(some))] + rng.normal(size=some.shape).astype(np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    near = rows[rng.integers(0, num_rows, QUESTIONS)]
    questions = near + rng.normal(size=near.shape).astype(np.float32) / np.sqrt(DIMENSIONS) / 2
    np.save(folder / "questions.npy", questions)
    ranges = np.stack([rows[:100_000].min(0), rows[:100_000].max(0)])
    for precision in PRECISIONS:
        packed = rows.astype(np.float16) if precision == "float16" else None
        if packed is None:
            packed = quantize_embeddings(rows, precision, ranges=ranges)
        file = folder / f"{precision}.npy"
        np.save(file, packed)
        facts = Sidecar(
            embedge=__version__,
            bundle="none",
            fingerprint="0" * 64,
            variant="none",
            task="embed",
            dimensions=DIMENSIONS,
            normalized=True,
            prompt="",
            long_text="truncate",
            precision=precision,
            ranges=ranges.tolist() if precision == "int8" else None,
            num_rows=num_rows,
            has_texts=False,
        )
        Path(f"{file}.json").write_bytes(msgspec.json.encode(facts))
        Path(f"{file}.rows.jsonl").write_text("".join(f'{{"id":{n}}}\n' for n in range(num_rows)))


def measure(file: Path, threads: int) -> dict:
    """Answer each question once, after one that warms up."""
    started = time.perf_counter()
    vectors = Vectors.open(file)
    opened_s = time.perf_counter() - started
    questions = np.load(file.with_name("questions.npy"))
    vectors.nearest(questions[:1], top=TOP, threads=threads)
    times, found = [], []
    for question in questions:
        asked = time.perf_counter()
        (hits,) = vectors.nearest(question, top=TOP, threads=threads)
        times.append(time.perf_counter() - asked)
        found.append([hit.row for hit in hits])
    return {
        "open_s": round(opened_s, 3),
        "p50_ms": round(statistics.median(times) * 1e3, 1),
        "p95_ms": round(sorted(times)[int(0.95 * len(times))] * 1e3, 1),
        "peak_mb": round(_status("VmHWM") / 1e3),
        "own_mb": round(_status("RssAnon") / 1e3),
        "file_mb": round(file.stat().st_size / 1e6),
        "found": found,
    }


def _status(name: str) -> int:
    """A figure of this process in kB; a mapped file counts to its peak as far as it was read."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vectors", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the rows are written, once")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.folder / f"{args.measure}.npy", args.threads)))
        return
    if not (args.folder / "binary.npy.rows.jsonl").exists():
        write(args.folder, args.rows)
    results = {}
    for precision in PRECISIONS:
        command = [sys.executable, "-m", "benchmarks.vectors", str(args.folder), "--measure", precision]
        done = subprocess.run(
            [*command, "--threads", str(args.threads)], capture_output=True, text=True, check=True
        )
        results[precision] = json.loads(done.stdout)
    exact = results["float32"]["found"]
    print(f"{args.rows:,} x {DIMENSIONS}, {args.threads} threads, {machine()}\n")
    print("| precision | file MB | peak MB | of it own MB | open s | p50 ms | p95 ms | recall@10 |")
    print("|---|---|---|---|---|---|---|---|")
    for precision, row in results.items():
        shared = [len({*ours} & {*theirs}) for ours, theirs in zip(row["found"], exact, strict=True)]
        recall = sum(shared) / (TOP * len(exact))
        cells = [row[name] for name in ("file_mb", "peak_mb", "own_mb", "open_s", "p50_ms", "p95_ms")]
        print(f"| {precision} | {' | '.join(map(str, cells))} | {recall:.3f} |")


if __name__ == "__main__":
    main()
