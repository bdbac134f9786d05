"""`python -m benchmarks.files BUNDLE FOLDER`: files of many texts, and of one very long one, through `embedge encode`.

A million short texts go from Parquet to Parquet: once unbroken, while the process's memory is watched, and once killed
three times and gone on with; between both, the same texts through EdgeModel.stream alone. A line of 50 MB is cut to the
model's limit. Each is a process of its own; the outputs are compared byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import machine

WORDS = [word for word in Path(__file__).read_text().split() if word.isalpha()]
FIRST_MINUTE_S = 60


def write_texts(file: Path, num_rows: int) -> None:
    """Short texts, each another."""
    import pyarrow
    import pyarrow.parquet

    rng = random.Random(1)
    schema = pyarrow.schema({"text": pyarrow.string()})
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, num_rows, 10_000):
            count = min(10_000, num_rows - start)
            texts = [f"{' '.join(rng.choices(WORDS, k=rng.randint(3, 9)))} {start + n}" for n in range(count)]
            writer.write_table(pyarrow.table({"text": texts}, schema))


def write_line(file: Path, size: int) -> None:
    """One line of so many bytes."""
    rng = random.Random(1)
    words = " ".join(rng.choices(WORDS, k=100_000)) + " "
    file.write_text((words * (size // len(words) + 1))[:size] + "\n")


def stream_alone(bundle: str, file: Path) -> dict:
    """Rows and seconds of EdgeModel.stream over texts that were read before."""
    import pyarrow.parquet

    from embedge import EdgeModel

    texts = pyarrow.parquet.read_table(file).column("text").to_pylist()
    with EdgeModel(bundle, device="cpu") as model:
        model.embed(texts[:2048])
        started, cpu = time.perf_counter(), time.process_time()
        count = sum(1 for _ in model.stream(texts, truncate_prompt_tokens=-1, window=2048))
        return {
            "rows": count,
            "wall_s": time.perf_counter() - started,
            "cpu_s": time.process_time() - cpu,
        }


class Watched:
    """A process of `embedge encode` whose memory is looked at twice a second."""

    def __init__(self, arguments: list[str]) -> None:
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embedge", "encode", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.samples: list[tuple[float, float]] = []

    def wait(self, kill_after_s: float | None = None) -> dict:
        """Until it ends, or is killed."""
        while True:
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            wall_s = time.perf_counter() - self._started
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return {
                    "status": self._process.returncode,
                    "wall_s": wall_s,
                    "cpu_s": used.ru_utime + used.ru_stime,
                    "peak_mb": used.ru_maxrss / 1e3,
                }
            if kill_after_s is not None and wall_s > kill_after_s:
                self._process.send_signal(signal.SIGKILL)
            self.samples.append((wall_s, _rss_mb(self._process.pid)))
            time.sleep(0.02 if kill_after_s is not None else 0.5)


def _rss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS:")), 0.0)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def many_texts(bundle: str, folder: Path, num_rows: int) -> dict:
    """Figures of the unbroken run, the broken one, and the model alone."""
    texts, whole, broken = (folder / name for name in ("texts.parquet", "whole.parquet", "broken.parquet"))
    write_texts(texts, num_rows)
    watched = Watched([bundle, str(texts), "-o", str(whole), "--overwrite"])
    unbroken = watched.wait()
    # what is watched of a shorter run begins after a tenth of it
    settled_s = min(FIRST_MINUTE_S, unbroken["wall_s"] / 10)
    later = [rss for at, rss in watched.samples if at >= settled_s]
    command = [sys.executable, "-m", "benchmarks.files", bundle, str(folder), "--stream-alone"]
    alone = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    statuses = []
    for share in (0.2, 0.25, 0.25, None):
        after_s = None if share is None else share * unbroken["wall_s"]
        how = "--resume" if statuses else "--overwrite"
        statuses.append(Watched([bundle, str(texts), "-o", str(broken), how]).wait(after_s)["status"])
    return {
        "rows": num_rows,
        "wall_s": round(unbroken["wall_s"], 1),
        "rows_per_s": round(num_rows / unbroken["wall_s"]),
        "model_alone_rows_per_s": round(num_rows / alone["wall_s"]),
        "wall_to_alone": round(unbroken["wall_s"] / alone["wall_s"], 3),
        "cpu_to_alone": round(unbroken["cpu_s"] / alone["cpu_s"], 3),
        "rss_settled_mb": round(later[0]),
        "rss_largest_after_mb": round(max(later)),
        "rss_grew_mb": round(max(later) - later[0]),
        "ended_with": statuses,
        "killed_and_resumed_is_the_same": _sha256(whole) == _sha256(broken),
    }


def long_line(bundle: str, folder: Path, size_mb: int) -> dict:
    """Figures of a line, and of a short one beside it."""
    figures = {}
    for name, size in (("short", 100), ("long", size_mb * 1_000_000)):
        file = folder / f"{name}.txt"
        write_line(file, size)
        done = Watched([bundle, str(file), "-o", str(folder / f"{name}.npy"), "--overwrite"]).wait(1e9)
        figures |= {f"{name}_wall_s": round(done["wall_s"], 2), f"{name}_peak_mb": round(done["peak_mb"])}
    return {"line_mb": size_mb, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("folder", type=Path, help="where files are written")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--line-mb", type=int, default=50)
    parser.add_argument("--only", choices=("texts", "line"))
    parser.add_argument(
        "-o", "--output", type=Path, help="where figures go, as benchmarks/results/files.json"
    )
    parser.add_argument("--stream-alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stream_alone:
        print(json.dumps(stream_alone(args.bundle, args.folder / "texts.parquet")))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine()}
    if args.only != "texts":
        figures["long_line"] = long_line(args.bundle, args.folder, args.line_mb)
    if args.only != "line":
        figures["many_texts"] = many_texts(args.bundle, args.folder, args.rows)
    told = json.dumps(figures, indent=1) + "\n"
    if args.output:
        args.output.write_text(told)
    print(told, end="")


if __name__ == "__main__":
    main()
