"""How time and memory grow: with the number of texts through stream(), and with the length of texts or of one."""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import cases as workloads
from benchmarks import models, runner
from benchmarks.corpus import choose, joined
from benchmarks.subjects import REFERENCE

ENVIRONMENTS = ("embedge", "torch")
"""Of all curves' subjects."""
LENGTH_TOKENS = 8192
"""Tokens of all texts of one length together."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A row of points, each measured in a fresh process per subject.

    Attributes:
        action: "stream": so many texts, over and over those of the case "short", through stream();
            "length": texts of so many tokens, LENGTH_TOKENS in all;
            "memory": one text of so many tokens.
        model: name in MODELS.
        subjects: names in SUBJECTS.
        points: numbers of texts, or of tokens.
        what: for tables.
    """

    action: Literal["stream", "length", "memory"]
    model: str
    subjects: tuple[str, ...]
    points: tuple[int, ...]
    what: str


CURVES = {
    "lengths": Curve(
        action="length",
        model="long-context",
        subjects=("embedge-fp32", "embedge-int8", REFERENCE, "sentence-transformers-onnx"),
        points=(16, 32, 64, 128, 256, 512, 1024, 2048),
        what=f"texts of one length, {LENGTH_TOKENS:,} tokens in all",
    ),
    "one-modernbert": Curve(
        action="memory",
        model="modernbert",
        subjects=("embedge-fp32", "embedge-int8", REFERENCE),
        points=(512, 1024, 2048, 4096, 8192),
        what="one text in a call, and the memory that it takes beside the loaded model",
    ),
    "texts-minilm": Curve(
        action="stream",
        model="minilm",
        subjects=("embedge-int8",),
        points=(100, 1_000, 10_000, 100_000),
        what="short texts through stream()",
    ),
    "texts-tiny": Curve(
        action="stream",
        model="tiny",
        subjects=("embedge-fp32",),
        points=(100, 1_000, 10_000, 100_000, 1_000_000),
        what="short texts through stream()",
    ),
}


def run(names: list[str], threads: int, resume: bool, file: Path, largest: int | None = None) -> None:
    """Measure curves, and write results after every point.

    Args:
        names: in CURVES.
        threads: for every subject.
        resume: keep points that the file holds of the same sources.
        file: results.
        largest: point to measure, for a quick look; None means all.
    """
    results = runner.open_results(file)
    for name in names:
        curve = CURVES[name]
        folders = runner.make(curve.model)
        jobs = {subject: runner.job_of(subject, curve.model, folders, threads) for subject in curve.subjects}
        truth = runner.job_of(REFERENCE, curve.model, folders, threads)
        stated = {subject: runner.prepare_subject(subject, job) for subject, job in jobs.items()}
        old = results["scaling"].get(name)
        if not resume or old is None or old["sources"] != models.sources():
            old = {"subjects": {}}
        entry = {
            "curve": name,
            "model": curve.model,
            "what": curve.what,
            "date": time.strftime("%Y-%m-%d"),
            "sources": models.sources(),
            "threads": threads,
            "subjects": {
                subject: facts | {"points": _measured(old["subjects"].get(subject, {}).get("points", {}))}
                for subject, facts in stated.items()
            },
        }
        results["scaling"][name] = entry
        referenced = None
        for point in curve.points:
            if largest is not None and point > largest:
                break
            given = _given(curve, point, folders)
            waiting = [s for s, facts in entry["subjects"].items() if str(point) not in facts["points"]]
            if waiting and referenced != given["texts"]:
                runner.child(REFERENCE, truth | given | {"action": "reference"})
                referenced = given["texts"]
            for subject in waiting:
                facts = entry["subjects"][subject]
                if "error" in facts:
                    continue
                try:
                    found = runner.child(subject, jobs[subject] | given | {"action": curve.action})
                except runner.ChildError as error:
                    facts["points"][str(point)] = {"error": str(error)}
                    print(f"{name} {point} {subject}: {error}", file=sys.stderr)
                    continue
                figures = {key: float(f"{value:.5g}") for key, value in found.pop("figures").items()}
                facts["points"][str(point)] = figures | found
                print(f"{name} {point} {subject}: {figures}", file=sys.stderr)
            runner.write(file, results)


def _measured(points: dict) -> dict:
    return {point: found for point, found in points.items() if "error" not in found}


def _given(curve: Curve, point: int, folders: dict[str, str]) -> dict:
    tokenizer_file = Path(folders["checkpoint"]) / "tokenizer.json"
    given = {"case_kind": "bulk", "count": point, "queries": 0}
    if curve.action == "stream":
        texts = workloads.prepare_texts("short", tokenizer_file, models.CACHE)
        given |= {"texts": str(texts.file), "num_tokens": texts.num_tokens, "max_tokens": 256}
    else:
        count = 1 if curve.action == "memory" else LENGTH_TOKENS // point
        file, num_tokens = texts_of_length(point, count, tokenizer_file, models.CACHE)
        given |= {
            "texts": str(file),
            "num_tokens": num_tokens,
            "max_tokens": models.MODELS[curve.model].limit,
        }
    return given | {"reference": str(models.CACHE / "run" / f"{curve.model}-{curve.action}.npy")}


def texts_of_length(size: int, count: int, tokenizer_file: Path, cache: Path) -> tuple[Path, int]:
    """`count` texts of `size` tokens each, on disk; and their tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "run").mkdir(exist_ok=True)
    file = cache / f"texts-{workloads.CORPUS_FORMAT}-{workloads.SEED}-length-{size}-{count}.json"
    if not file.is_file():
        found = list(joined(workloads.pool(tokenizer, cache), size + 1))
        rng = random.Random(f"{workloads.SEED} length {size}")
        file.write_text(json.dumps(choose(found, [size] * count, workloads.cutter(tokenizer), rng)))
    texts = json.loads(file.read_text())
    lengths = [len(encoding) for encoding in tokenizer.encode_batch_fast(texts)]
    if max(lengths) > size:
        raise ValueError(f"{file}: a text has {max(lengths)} tokens; expected at most {size}")
    return file, sum(lengths)
