"""python -m benchmarks.jobs BUNDLE CHECKPOINT: the same job by embedge and by others, each a whole process.

Runs in .venvs/jobs. The systems take turns, round by round; before the first, each does a few texts, as the first
start of a program reads its files from disk. Writes results/jobs.json and the section of docs/speed.md; `make
bench-jobs` does all of it, in about 8 minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import tokenizers

from benchmarks.files import WORDS
from benchmarks.jobs import page
from benchmarks.jobs.systems import HERE, REFERENCE, SYSTEMS, System
from benchmarks.machine import machine
from benchmarks.models import CACHE, ROOT
from benchmarks.watched import Watched
from embedge import __version__

RESULTS = ROOT / "benchmarks" / "results" / "jobs.json"
FEW = 64


def write_texts(folder: Path, num_rows: int) -> list[str]:
    """Different texts of 3 to 9 words with identifiers, as Parquet and as CSV."""
    rng = random.Random(1)
    texts = [f"{' '.join(rng.choices(WORDS, k=rng.randint(3, 9)))} {row}" for row in range(num_rows)]
    columns = {"id": [f"row-{row}" for row in range(num_rows)], "text": texts}
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "texts.parquet")
    with (folder / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return texts


class Jobs:
    """Where files and programs are."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._venvs, self._folder = asked.venvs, asked.folder
        self._files = {
            "bundle": asked.bundle,
            "checkpoint": asked.checkpoint,
            "onnx": asked.folder / "fastembed",
        }
        # nobody's threads are set from outside, nobody looks for a model's newest version, and everybody's modules are
        # compiled, as pip does it
        self._environment = {"HF_HUB_OFFLINE": "1", "LLM_USER_PATH": str(asked.folder / "llm")}
        for name in ("OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"):
            os.environ.pop(name, None)

    def output(self, name: str) -> Path:
        """Where a system's vectors are saved."""
        return self._folder / "vectors" / f"{name}.{'parquet' if SYSTEMS[name].writes == 'Parquet' else 'db'}"

    def prepare(self) -> None:
        """What is there before anybody's job: fastembed's folder, llm's list of models."""
        folder = self._files["onnx"]
        if not (folder / "tokenizer.json").exists():
            python = self._program("optimum", "python")
            command = [
                python,
                "-m",
                "benchmarks.jobs.fastembed_folder",
                self._files["checkpoint"],
                folder,
            ]
            subprocess.run(command, check=True, cwd=ROOT)
        shutil.rmtree(self._folder / "llm", ignore_errors=True)
        for system in SYSTEMS.values():
            if system.before:
                command = self._command(system, system.before, {})
                subprocess.run(command, check=True, env=os.environ | self._environment)

    def run(self, name: str, texts: Path) -> dict:
        """One job of a system."""
        system, output = SYSTEMS[name], self.output(name)
        shutil.rmtree(output.parent / output.name, ignore_errors=True)
        output.unlink(missing_ok=True)
        output.parent.mkdir(exist_ok=True)
        command = self._command(
            system, system.command, {"texts": texts / f"texts.{system.reads}", "output": output}
        )
        done = Watched(command, self._environment).wait()
        return {key: round(done[key], 2) for key in ("wall_s", "cpu_s", "peak_mb")}

    def versions(self, system: System) -> dict[str, str]:
        """Of its packages, in its environment."""
        code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
        command = [self._program(system.environment, "python"), "-c", code, *system.packages]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return dict(zip(system.packages, told, strict=True))

    def _command(self, system: System, command: tuple[str, ...], files: dict[str, Path]) -> list[str]:
        program, *arguments = (part.format(**self._files, **files) for part in command)
        arguments = [str(HERE / part) if part.endswith("_script.py") else part for part in arguments]
        return [self._program(system.environment, program), *arguments]

    def _program(self, environment: str, name: str) -> str:
        return str(self._venvs / environment / "bin" / name)


def compare(jobs: Jobs, names: list[str]) -> dict[str, dict]:
    """Cosines of each system's saved vectors to the reference's, by identifier."""
    expected, found = SYSTEMS[REFERENCE].vectors(jobs.output(REFERENCE)), {}
    for name in names:
        rows = SYSTEMS[name].vectors(jobs.output(name))
        if set(rows) != set(expected):
            raise SystemExit(
                f"{name} saved {len(rows)} identifiers; expected the {len(expected)} of the texts"
            )
        theirs, ours = (np.stack([each[key] for key in expected]).astype("f8") for each in (rows, expected))
        cosines = (theirs * ours).sum(1) / np.linalg.norm(theirs, axis=1) / np.linalg.norm(ours, axis=1)
        found[name] = {
            "cosine_min": round(float(cosines.min()), 7),
            "cosine_mean": round(float(cosines.mean()), 7),
        }
    return found


def measure(asked: argparse.Namespace) -> dict:
    """Everything that results state."""
    began, jobs = time.perf_counter(), Jobs(asked)
    texts = write_texts(asked.folder, asked.rows)
    few = asked.folder / "few"
    write_texts(few, FEW)
    jobs.prepare()
    systems = {}
    for name, system in SYSTEMS.items():
        stated = {
            "label": system.label,
            "reads": system.reads,
            "writes": system.writes,
            "lines": system.lines,
        }
        systems[name] = stated | {"versions": jobs.versions(system), "runs": []}
        try:
            jobs.run(name, few)
        except SystemExit as error:
            systems[name]["error"] = str(error).strip().splitlines()[-1]
            print(f"{name}: {error}", file=sys.stderr)
    able = [name for name, facts in systems.items() if "error" not in facts]
    longest_s = 0.0
    for number in range(asked.rounds):
        round_began = time.perf_counter()
        if number and round_began - began + longest_s > asked.most_s:
            break
        for name in able:
            figures = jobs.run(name, asked.folder)
            systems[name]["runs"].append(figures)
            print(f"round {number} {name}: {figures}", file=sys.stderr)
        longest_s = max(longest_s, time.perf_counter() - round_began)
    for name, cosines in compare(jobs, able).items():
        systems[name] |= cosines
    tokenizer = tokenizers.Tokenizer.from_file(str(asked.checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    return {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "embedge": __version__,
        "rows": asked.rows,
        "rounds": len(systems[REFERENCE]["runs"]),
        "tokens_mean": round(sum(map(len, tokenizer.encode_batch(texts))) / len(texts), 1),
        "systems": systems,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="with variants fp32 and int8")
    parser.add_argument("checkpoint", type=Path, help="of which the bundle is")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most-s", type=float, default=420, help="after which no round is to end")
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venvs")
    parser.add_argument("--folder", type=Path, default=CACHE / "jobs", help="where files are written")
    parser.add_argument("--look", action="store_true", help="print results, and write none")
    asked = parser.parse_args()
    results = measure(asked)
    if asked.look:
        print(page.section(results))
        return
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    page.write(results)


if __name__ == "__main__":
    main()
