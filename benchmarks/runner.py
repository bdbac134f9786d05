"""Every measurement in a fresh process, subjects in turn (A B C A B C …), outputs compared with the reference."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import cases as workloads
from benchmarks import models
from benchmarks.machine import machine
from benchmarks.subjects import REFERENCE, SUBJECTS

SCHEMA = 2
DISTURBED = 0.15
"""Processors in use by others, on average, above which a run is made again if `attempts` allow."""


def run(
    *,
    model: str,
    cases: Sequence[str],
    subjects: Sequence[str],
    repeats: int,
    threads: int,
    attempts: int,
    bundle: Path | None,
    file: Path,
) -> None:
    """Measure, and write results after every case.

    Args:
        model: name in models.MODELS.
        cases: names in cases.CASES.
        subjects: names in SUBJECTS.
        repeats: fresh processes per case and subject.
        threads: for every subject.
        attempts: how often at most a run is made again because other processes disturbed it.
        bundle: folder of the model's bundle; None exports one with the exporter at hand.
        file: results; cases that it holds already and that are not measured now stay.
    """
    checkpoint = models.checkpoint(model)
    bundle = (bundle or models.bundle(model)).resolve()
    texts = workloads.prepare_texts(list(cases), checkpoint / "tokenizer.json", models.CACHE)
    jobs = {name: _job(name, model, checkpoint, bundle, threads) for name in subjects}
    described = {name: _prepare(name, job) for name, job in jobs.items()}
    results = json.loads(file.read_text()) if file.is_file() else {}
    if results.get("schema") != SCHEMA or results["machine"] != machine():
        results = {"schema": SCHEMA, "machine": machine(), "cases": {}}
    for name in cases:
        entry = measure(name, texts[name], jobs, described, repeats, attempts)
        facts = {"model": model, "case": name, "threads": threads, "seed": workloads.SEED}
        results["cases"][f"{model}/{name}"] = facts | entry
        if name == "start":
            results["imports"] = import_cost(threads)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")


def measure(
    case: str, texts: workloads.Texts, jobs: dict, described: dict, repeats: int, attempts: int
) -> dict:
    """One case: the reference's vectors, then `repeats` rounds of all subjects."""
    kind = workloads.CASES[case].kind
    folder = models.CACHE / "run"
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "texts": str(texts.file),
        "num_tokens": texts.num_tokens,
        "reference": str(folder / f"{case}.npy"),
        "warm_up": workloads.WARM_UP_QUERIES,
    }
    truth = _job(
        REFERENCE, *(next(iter(jobs.values()))[key] for key in ("model", "checkpoint", "bundle", "threads"))
    )
    _child(REFERENCE, truth | given | {"action": "reference"})
    measured: dict[str, dict] = {name: described[name] | {"runs": []} for name in jobs}
    # the first start of a program reads its files from disk, which is not what is compared
    rounds = range(-1 if kind == "start" else 0, repeats)
    began = time.strftime("%Y-%m-%d")
    for number in rounds:
        for name, job in jobs.items():
            if "error" in measured[name]:
                continue
            try:
                found = _undisturbed(name, job | given | {"action": kind}, attempts)
            except ChildError as error:
                measured[name]["error"] = str(error)
                print(f"{case} {name}: {error}", file=sys.stderr)
                continue
            if number < 0:
                continue
            figures = {key: float(f"{value:.5g}") for key, value in found["figures"].items()}
            measured[name]["agreement"] = found["agreement"]
            measured[name]["agreement_before"] = found["agreement_before"]
            measured[name]["runs"].append(figures)
            print(f"{case} {number + 1}/{repeats} {name}: {figures}", file=sys.stderr)
    return {"date": began, "repeats": repeats, "texts": texts.summary(), "subjects": measured}


def _undisturbed(subject: str, job: dict, attempts: int) -> dict:
    """The first run that other processes left alone, or the least disturbed of `attempts`."""
    best = _child(subject, job)
    for _ in range(attempts - 1):
        if not best["figures"]["others_cores"] > DISTURBED:
            break
        again = _child(subject, job)
        best = min(best, again, key=lambda found: found["figures"]["others_cores"])
    return best


def import_cost(threads: int, repeats: int = 11) -> dict:
    """`import embedge` against `import numpy, msgspec`: medians of fresh processes, in turn."""
    codes = {"embedge": "import embedge", "numpy_msgspec": "import numpy, msgspec", "python": "pass"}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    for number in range(-1, repeats):
        for name, code in codes.items():
            began = time.perf_counter()
            subprocess.run(
                [_python("embedge"), "-c", code], check=True, env=_environment(threads), cwd=models.ROOT
            )
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {f"{name}_ms": round(1e3 * statistics.median(found), 1) for name, found in seconds.items()}


class ChildError(RuntimeError):
    """A subject's process failed; the message is its last line on stderr."""


def _job(subject: str, model: str, checkpoint: Path | str, bundle: Path | str, threads: int) -> dict:
    found = SUBJECTS[subject]
    job = asdict(found) | {
        "subject": subject,
        "model": model,
        "checkpoint": str(checkpoint),
        "bundle": str(bundle),
        "prepared": str(models.CACHE / model / subject),
        "threads": threads,
        "max_tokens": workloads.MAX_TOKENS,
        "seed": workloads.SEED,
    }
    if found.module == "fastembed_custom":  # its files are the bundle's
        job["prepared"] += f"-{Path(bundle).name}"
    return job


def _prepare(subject: str, job: dict) -> dict:
    """Make a subject's files where they are missing; what results state about it."""
    stated = {key: job[key] for key in ("label", "precision", "environment")}
    folder = Path(job["prepared"])
    try:
        if not (folder / ".complete").is_file() and _has_prepare(job["module"]):
            for old in (folder, *folder.parent.glob(f"{subject}-bundle-*")):
                shutil.rmtree(old, ignore_errors=True)
            folder.mkdir(parents=True)
            _child(subject, job | {"action": "prepare"}, environment="torch")
            (folder / ".complete").touch()
        return stated | _child(subject, job | {"action": "describe"})
    except ChildError as error:
        print(f"{subject}: {error}", file=sys.stderr)
        return stated | {"error": str(error)}


def _has_prepare(module: str) -> bool:
    return "\ndef prepare(" in (Path(__file__).parent / "subjects" / f"{module}.py").read_text()


def _child(subject: str, job: dict, environment: str | None = None) -> dict:
    done = subprocess.run(
        [_python(environment or SUBJECTS[subject].environment), "-m", "benchmarks.child", json.dumps(job)],
        text=True, capture_output=True, check=False, env=_environment(job["threads"]), cwd=models.ROOT,
    )  # fmt: skip
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if os.environ.get("BENCHMARKS_DEBUG"):
            print(done.stderr, file=sys.stderr)
        raise ChildError((lines or [f"exit status {done.returncode}"])[-1].replace(str(models.ROOT), ""))
    return json.loads(done.stdout.strip().splitlines()[-1])


def _python(environment: str) -> str:
    return str(models.ROOT / ".venvs" / environment / "bin" / "python")


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(models.ROOT),
    }
