"""`python -m benchmarks.vectors`: search over saved rows in every precision: time, memory, and what is found.

The rows are drawn around centres, as texts lie around topics, and packed by sentence-transformers'
quantize_embeddings. Each way to search has a process of its own and mapped rows; they take turns at every question, so
that what else the machine does slows all of them alike.
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
WAYS = (
    ("float32", ""),
    ("float16", ""),
    ("int8", ""),
    ("binary", ""),
    ("binary", "int8"),
    ("binary", "float32"),
)
"""Rows that are searched, and those that decide between the nearest."""
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


def answer(folder: Path, precision: str, finer: str, threads: int) -> None:
    """Answer the question whose number comes on stdin, each by a line; at the end, what memory it took."""
    started = time.perf_counter()
    vectors = Vectors.open(folder / f"{precision}.npy")
    rescore = Vectors.open(folder / f"{finer}.npy") if finer else None
    opened_s = time.perf_counter() - started
    questions = np.load(folder / "questions.npy")
    for line in sys.stdin:
        asked = time.perf_counter()
        (hits,) = vectors.nearest(questions[int(line)], top=TOP, threads=threads, rescore=rescore)
        took_ms = (time.perf_counter() - asked) * 1e3
        print(json.dumps({"ms": took_ms, "rows": [hit.row for hit in hits]}), flush=True)
    used = {"opened_s": opened_s, "peak_mb": _status("VmHWM") / 1e3, "own_mb": _status("RssAnon") / 1e3}
    print(json.dumps(used | {"file_mb": (folder / f"{precision}.npy").stat().st_size / 1e6}))


def measure(folder: Path, threads: int) -> list[dict]:
    """Every way's answers, times and memory; each is asked one question before, which maps its rows."""
    command = [sys.executable, "-m", "benchmarks.vectors", str(folder), "--threads", str(threads)]
    processes = [
        subprocess.Popen(
            [*command, "--answer", *way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for way in WAYS
    ]
    answers: list[list[dict]] = [[] for _ in WAYS]
    for question in (0, *range(QUESTIONS)):
        for process, told in zip(processes, answers, strict=True):
            process.stdin.write(f"{question}\n")
            process.stdin.flush()
            told.append(json.loads(process.stdout.readline()))
    exact = [each["rows"] for each in answers[0][1:]]
    results = []
    for way, process, told in zip(WAYS, processes, answers, strict=True):
        used = json.loads(process.communicate()[0])
        times = sorted(each["ms"] for each in told[1:])
        shared = [len({*each["rows"]} & {*best}) for each, best in zip(told[1:], exact, strict=True)]
        results.append(
            {
                "rows": way[0] + (f", rescored by {way[1]}" if way[1] else ""),
                "file_mb": round(used["file_mb"]),
                "peak_mb": round(used["peak_mb"]),
                "own_mb": round(used["own_mb"]),
                "open_s": round(used["opened_s"], 3),
                "best_ms": round(times[0], 1),
                "p50_ms": round(statistics.median(times), 1),
                "p95_ms": round(times[int(0.95 * len(times))], 1),
                "recall_at_10": round(sum(shared) / (TOP * len(exact)), 3),
            }
        )
    return results


def _status(name: str) -> int:
    """A figure of this process in kB; a mapped file counts to its peak as far as it was read."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vectors", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the rows are written, once")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "-o", "--output", type=Path, help="a table to write, as benchmarks/results/vectors.md"
    )
    parser.add_argument("--answer", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.answer:
        answer(args.folder, *args.answer, args.threads)
        return
    if not (args.folder / "binary.npy.rows.jsonl").exists():
        write(args.folder, args.rows)
    results = measure(args.folder, args.threads)
    names = [name.replace("_", " ").replace(" at ", "@") for name in results[0]]
    cpu = machine()["cpu"]
    lines = [
        f"{args.rows:,} x {DIMENSIONS}, {QUESTIONS} questions, {args.threads} threads, {cpu}, numpy {np.__version__}. "
        "Peak memory counts what of the mapped files was read; own memory does not.",
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
        *(f"| {' | '.join(map(str, row.values()))} |" for row in results),
    ]
    table = "\n".join(lines) + "\n"
    if args.output:
        args.output.write_text(table)
    print(table, end="")


if __name__ == "__main__":
    main()
