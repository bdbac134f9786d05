"""Every measurement in a fresh process, subjects in turn (A B C A B C …), outputs compared with the reference."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.cases import CASES, SEED, write_texts

ROOT = Path(__file__).parents[1]
REFERENCE = "sentence_transformers_torch"
SUBJECTS = ("embedge_fp32", "embedge_int8", REFERENCE, "fastembed_onnx", "plain_onnxruntime")
OWN_ENVIRONMENT = {"fastembed_onnx": ROOT / ".venvs" / "fastembed" / "bin" / "python"}
"""Peers whose requirements clash with ours; `make bench` makes these."""


def run(
    cases: list[str], subjects: list[str], repeats: int, bundle: Path, checkpoint: Path, threads: int
) -> dict:
    """Measure and summarise.

    Returns:
        JSON: machine, seed, and by case and subject the median, minimum and maximum of each figure, with the cosine
        to the reference's vectors.
    """
    results: dict = {
        "machine": machine(),
        "threads": threads,
        "seed": SEED,
        "dtype": "float32",
        "repeats": repeats,
    }
    results["cases"] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in cases:
            texts, sha256 = write_texts(name, folder)
            runs: dict[str, list[dict]] = {subject: [] for subject in subjects}
            for repeat in range(repeats):
                for subject in subjects:
                    job = {
                        "subject": subject,
                        "kind": CASES[name].kind,
                        "texts": str(texts),
                        "vectors": str(folder / f"{subject}.npy"),
                        "bundle": str(bundle),
                        "checkpoint": str(checkpoint),
                        "threads": threads,
                    }
                    runs[subject].append(measure(job))
                    figures = {k: round(v, 4) for k, v in runs[subject][-1]["figures"].items()}
                    print(f"{name} {repeat + 1}/{repeats} {subject}: {figures}", file=sys.stderr)
            reference = np.load(folder / f"{REFERENCE}.npy") if REFERENCE in subjects else None
            results["cases"][name] = {
                "texts_sha256": sha256,
                "subjects": {
                    subject: summarise(measured, np.load(folder / f"{subject}.npy"), reference)
                    for subject, measured in runs.items()
                },
            }
    return results


def measure(job: dict) -> dict:
    """Run one child and read the JSON on its last line."""
    python = OWN_ENVIRONMENT.get(job["subject"], Path(sys.executable))
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": str(job["threads"]),
        "RAYON_NUM_THREADS": str(job["threads"]),
        "TOKENIZERS_PARALLELISM": "true",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [str(python), "-m", "benchmarks.child", json.dumps(job)],
        text=True, capture_output=True, check=False, env=environment, cwd=ROOT,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{job['subject']} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def summarise(measured: list[dict], vectors: np.ndarray, reference: np.ndarray | None) -> dict:
    """Median, minimum and maximum of each figure; agreement with the reference."""
    names = measured[0]["figures"]
    summary = {
        "versions": measured[0]["versions"],
        "figures": {
            name: {
                "median": statistics.median(run["figures"][name] for run in measured),
                "min": min(run["figures"][name] for run in measured),
                "max": max(run["figures"][name] for run in measured),
            }
            for name in names
        },
    }
    if reference is not None:
        a, b = vectors.astype(np.float64), reference.astype(np.float64)
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        summary["cosine"] = {"min": float(cosines.min()), "mean": float(cosines.mean())}
    return summary


def machine() -> dict:
    """Processor and cores, without names or paths."""
    model = "unknown"
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next(
            (
                line.split(":", 1)[1].strip()
                for line in info.read_text().splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "python": sys.version.split()[0]}


def import_ratio(repeats: int) -> dict:
    """Cost of `import embedge` against `import numpy, msgspec`, fresh processes in pairs."""
    import time

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    seconds("import embedge")
    ratios = [seconds("import embedge") / seconds("import numpy, msgspec") for _ in range(repeats)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
