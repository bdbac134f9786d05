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
from benchmarks.calm import Care, undisturbed
from benchmarks.machine import machine
from benchmarks.subjects import REFERENCE, SUBJECTS

SCHEMA = 3
PATIENCE_S = 900
"""After which a measuring process counts as failed; making a bundle may take four times as long."""


def run(
    *,
    cases: Sequence[str],
    subjects: Sequence[str],
    repeats: int,
    threads: int,
    care: Care,
    share: float,
    resume: bool,
    file: Path,
) -> None:
    """Measure, and write results after every round.

    Args:
        cases: "MODEL/CASE", of models.MODELS and cases.CASES.
        subjects: names in SUBJECTS.
        repeats: rounds, each with one fresh process per subject.
        threads: for every subject.
        care: of every run that counts.
        share: of each case's texts, for a quick look.
        resume: keep rounds of these cases that the file holds of the same sources, and do those that are missing.
        file: results; what it holds of other cases stays.
    """
    ready = prepare(cases, subjects, threads, share)
    results = open_results(file)
    for key in cases:
        model, name = key.split("/")
        texts, jobs, described = ready[key]
        entry = entry_for(
            results["cases"].get(key) if resume else None, texts.summary(), models.measured(model)
        )
        label = models.MODELS[model].label
        entry |= {"model": model, "label": label, "case": name, "threads": threads, "seed": workloads.SEED}
        for subject, facts in described.items():
            kept = entry["subjects"].get(subject, {})
            old = {field: kept[field] for field in ("agreement", "agreement_before") if field in kept}
            entry["subjects"][subject] = facts | old | {"runs": kept.get("runs", [])}
        results["cases"][key] = entry
        given = _given(texts, model)
        if missing(entry, subjects, repeats):
            child(REFERENCE, jobs[REFERENCE] | given | {"action": "reference"})
        # the first start of a program reads its files from disk, which is not what is compared
        if workloads.CASES[name].kind == "start":
            for subject in subjects:
                _attempt(results, key, subject, jobs[subject] | given, Care(), number=None)
        while missing(entry, subjects, repeats):
            number = 1 + max((r["round"] for s in entry["subjects"].values() for r in s["runs"]), default=-1)
            for subject in subjects:
                _attempt(results, key, subject, jobs[subject] | given, care, number)
            write(file, results)
        if name == "start" and not (resume and "imports" in results):
            results["imports"] = import_cost(threads)
        write(file, results)


def prepare(
    cases: Sequence[str], subjects: Sequence[str], threads: int, share: float = 1.0
) -> dict[str, tuple]:
    """Make every file that the cases need, where it is missing: texts, checkpoints, bundles, the subjects' own.

    Returns:
        By case: texts, jobs by subject, and what results state about each subject.
    """
    ready, made, described = {}, {}, {}
    for key in cases:
        model, name = key.split("/")
        if model not in made:
            made[model] = make(model)
        folders = made[model]
        texts = workloads.prepare_texts(
            name,
            Path(folders["checkpoint"]) / "tokenizer.json",
            models.CACHE,
            share * models.MODELS[model].share,
        )
        jobs = {subject: job_of(subject, model, folders, threads) for subject in (*subjects, REFERENCE)}
        for subject in subjects:
            if (model, subject) not in described:
                described[model, subject] = prepare_subject(subject, jobs[subject])
        ready[key] = (texts, jobs, {subject: described[model, subject] for subject in subjects})
    return ready


def open_results(file: Path) -> dict:
    """What a results file holds of this machine; empty results otherwise."""
    results = json.loads(file.read_text()) if file.is_file() else {}
    if results.get("schema") != SCHEMA or results["machine"] != machine():
        return {"schema": SCHEMA, "machine": machine(), "cases": {}, "scaling": {}}
    return results


def write(file: Path, results: dict) -> None:
    """Replace the results file at once, so that an interrupted run leaves a whole one."""
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    temporary.replace(file)


def missing(entry: dict, subjects: Sequence[str], wanted: int) -> int:
    """Rounds to do until `wanted` hold a run of each subject that does not fail."""
    able = [entry["subjects"][name] for name in subjects if "error" not in entry["subjects"][name]]
    if not able:
        return 0
    rounds = set.intersection(*({run["round"] for run in facts["runs"]} for facts in able))
    return max(0, wanted - len(rounds))


def entry_for(old: dict | None, texts: dict, sources: str) -> dict:
    """A case's results to add to: the old ones if they are of the same texts and sources, else new ones."""
    facts = {"sources": sources, "texts": texts}
    if old is not None and all(old[field] == value for field, value in facts.items()):
        return old
    return {"date": time.strftime("%Y-%m-%d"), **facts, "subjects": {}}


def _attempt(results: dict, key: str, subject: str, job: dict, care: Care, number: int | None) -> None:
    """One process of one subject; what it found goes into the results, unless `number` is None."""
    facts = results["cases"][key]["subjects"][subject]
    if "error" in facts:
        return
    try:
        found = undisturbed(lambda: child(subject, job | {"action": job["case_kind"]}), care, results)
    except ChildError as error:
        facts["error"] = str(error)
        print(f"{key} {subject}: {error}", file=sys.stderr)
        return
    if number is None:
        return
    facts["agreement"], facts["agreement_before"] = found["agreement"], found["agreement_before"]
    figures = {name: float(f"{value:.5g}") for name, value in found["figures"].items()}
    facts["runs"].append({"round": number} | figures)
    print(f"{key} round {number} {subject}: {figures}", file=sys.stderr)


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


def job_of(subject: str, model: str, folders: dict[str, str], threads: int) -> dict:
    """What a subject's process is told about a model."""
    return asdict(SUBJECTS[subject]) | {
        "subject": subject,
        "model": model,
        "kind": models.MODELS[model].kind,
        "checkpoint": folders["checkpoint"],
        "bundle": folders["bundle"],
        "prepared": str(models.home(model) / subject),
        "threads": threads,
        "max_tokens": models.MODELS[model].limit,
        "seed": workloads.SEED,
    }


def _given(texts: workloads.Texts, model: str) -> dict:
    """What all subjects' processes are told about a case."""
    case = workloads.CASES[texts.case]
    folder = models.CACHE / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "case_kind": case.kind,
        "texts": str(texts.file),
        "num_tokens": texts.num_tokens,
        "max_tokens": case.max_tokens,
        "queries": case.queries,
        "reference": str(folder / f"{model}-{texts.case}.npy"),
        "warm_up": workloads.WARM_UP_QUERIES,
    }


def make(model: str) -> dict[str, str]:
    """Folders of a model's checkpoint and bundle, made where they are missing."""
    command = [_python("torch"), "-m", "benchmarks.models", model]
    done = _process(command, threads=os.cpu_count() or 1, patience_s=4 * PATIENCE_S)
    return json.loads(done.strip().splitlines()[-1])


def prepare_subject(subject: str, job: dict) -> dict:
    """Make a subject's files where they are missing; what results state about it."""
    stated = {key: job[key] for key in ("label", "precision", "environment")}
    folder = Path(job["prepared"])
    try:
        if not (folder / ".complete").is_file() and _hasprepare_subject(job["module"]):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            child(subject, job | {"action": "prepare"}, environment="torch")
            (folder / ".complete").touch()
        return stated | child(subject, job | {"action": "describe"})
    except ChildError as error:
        print(f"{subject}: {error}", file=sys.stderr)
        return stated | {"error": str(error)}


def _hasprepare_subject(module: str) -> bool:
    return "\ndef prepare(" in (Path(__file__).parent / "subjects" / f"{module}.py").read_text()


def child(subject: str, job: dict, environment: str | None = None) -> dict:
    """What a subject's process prints last.

    Raises:
        ChildError: it failed or took too long.
    """
    python = _python(environment or SUBJECTS[subject].environment)
    done = _process([python, "-m", "benchmarks.child", json.dumps(job)], job["threads"])
    return json.loads(done.strip().splitlines()[-1])


def _process(command: list[str], threads: int, patience_s: int = PATIENCE_S) -> str:
    """stdout of a process in the repository's root.

    Raises:
        ChildError: it failed or took too long.
    """
    try:
        done = subprocess.run(
            command, text=True, capture_output=True, check=False, timeout=patience_s,
            env=_environment(threads), cwd=models.ROOT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"took longer than {patience_s} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if os.environ.get("BENCHMARKS_DEBUG"):
            print(done.stderr, file=sys.stderr)
        raise ChildError((lines or [f"exit status {done.returncode}"])[-1].replace(str(models.ROOT), ""))
    return done.stdout


def _python(environment: str) -> str:
    return str(models.ROOT / ".venvs" / environment / "bin" / "python")


def _environment(threads: int) -> dict[str, str]:
    # pip compiles what it installs, and embedge's own modules are compiled at their first import
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return given | {
        "EMBEDGE_HOME": str(models.CACHE / "home"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(models.ROOT),
    }
