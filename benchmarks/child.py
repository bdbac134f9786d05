"""One subject in one process; the last line of stdout is its result as JSON."""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # before anything heavy is imported

import importlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402

from benchmarks.disturbed import Others  # noqa: E402
from benchmarks.resident import peak_rss_mb, resident_mb  # noqa: E402


def main() -> None:
    job = json.loads(sys.argv[1])
    subject = importlib.import_module(f"benchmarks.subjects.{job['module']}")
    result = ACTIONS[job["action"]](subject, job)
    print("\n" + json.dumps(result))


def prepare(subject, job):
    """Make the files that a subject reads."""
    subject.prepare(job)
    return {}


def describe(subject, job):
    """Versions and sizes; no measurement."""
    import platform

    from benchmarks.installed import installed

    names = subject.packages(job) if hasattr(subject, "packages") else subject.PACKAGES
    sizes = installed(names)
    return {
        "python": platform.python_version(),
        "versions": {name: version for name, (version, _) in sizes.items() if name in names},
        "packages": len(sizes),
        "install_mb": round(sum(size for _, size in sizes.values()) / 1e6, 1),
        "file_mb": round(sum(file.stat().st_size for file in subject.files(job)) / 1e6, 1),
    }


def reference(subject, job):
    """Embed all texts, or score all pairs, without timing, and keep the result for the others."""
    import numpy as np

    if job["case_kind"] == "rerank":
        score = subject.load_pairs(job)
        found = [score(query, documents) for query, documents in _asked(job)]
    else:
        found = subject.load(job)(_texts(job))
    np.save(job["reference"], np.asarray(found, dtype=np.float32))
    return {}


def start(subject, job):
    """From a fresh process to the first vector."""
    texts, others = _texts(job), Others(looped=False)
    vectors = subject.load(job)(texts)
    figures = {"start_s": time.perf_counter() - STARTED} | others.figures()
    figures["peak_rss_mb"] = peak_rss_mb()
    return _result(job, figures, vectors)


def query(subject, job):
    """One text at a time, as a search box asks."""
    texts = _texts(job)
    embed = subject.load(job)
    warm = job["warm_up"]
    before = _agreement([embed([text])[0] for text in texts[:warm]], job, slice(0, warm))
    seconds, vectors = [], []
    others, cpu = Others(), time.process_time()
    for text in texts[warm:]:
        began = time.perf_counter()
        vectors.append(embed([text])[0])
        seconds.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    figures = {
        "p50_ms": 1e3 * _quantile(seconds, 0.5),
        "p95_ms": 1e3 * _quantile(seconds, 0.95),
        "cpu_s_per_1000": 1e3 * cpu / len(seconds),
        **others.figures(),
        "peak_rss_mb": peak_rss_mb(),
    }
    time.sleep(0.5)  # threads may spin for a moment after the last run
    began, cpu = time.perf_counter(), time.process_time()
    time.sleep(2)
    figures["idle_cpu_percent"] = 100 * (time.process_time() - cpu) / (time.perf_counter() - began)
    return _result(job, figures, vectors, slice(warm, None), before)


def bulk(subject, job):
    """All texts in one call, after up to a hundred of them, spread over the whole, as warm-up."""
    texts = _texts(job)
    embed = subject.load(job)
    sample = slice(0, None, max(10, len(texts) // 100))
    before = _agreement(embed(texts[sample]), job, sample)
    others, cpu, began = Others(), time.process_time(), time.perf_counter()
    vectors = embed(texts)
    elapsed = time.perf_counter() - began
    figures = {
        "texts_per_s": len(texts) / elapsed,
        "tokens_per_s": job["num_tokens"] / elapsed,
        "cpu_s_per_1000": 1e3 * (time.process_time() - cpu) / len(texts),
        **others.figures(),
        "peak_rss_mb": peak_rss_mb(),
    }
    return _result(job, figures, vectors, before=before)


def rerank(subject, job):
    """One query with all its documents at a time; the first query is asked twice, the first time as warm-up."""
    if not hasattr(subject, "load_pairs"):
        raise SystemExit("offers no cross-encoders")
    asked = _asked(job)
    score = subject.load_pairs(job)
    before = _agreement([score(*asked[0])], job, slice(0, 1), centred=True)
    seconds, scores = [], []
    others, cpu = Others(), time.process_time()
    for query_text, documents in asked:
        began = time.perf_counter()
        scores.append(score(query_text, documents))
        seconds.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    pairs = sum(len(documents) for _, documents in asked)
    figures = {
        "pairs_per_s": pairs / sum(seconds),
        "tokens_per_s": job["num_tokens"] / sum(seconds),
        "p50_ms": 1e3 * _quantile(seconds, 0.5),
        "p95_ms": 1e3 * _quantile(seconds, 0.95),
        "cpu_s_per_1000": 1e3 * cpu / pairs,
        **others.figures(),
        "peak_rss_mb": peak_rss_mb(),
    }
    return _result(job, figures, scores, before=before, centred=True)


def stream(subject, job):
    """`count` texts through stream(), nothing kept; memory after loading and at its highest."""
    from itertools import cycle, islice

    import numpy as np

    texts = _texts(job)
    expected = np.load(job["reference"], mmap_mode="r")
    vectors = subject.load_stream(job)
    others, cpu, began = Others(), time.process_time(), time.perf_counter()
    worst, answered = 1.0, 0
    for vector in vectors(islice(cycle(texts), job["count"])):
        if answered == 0:
            first, before = time.perf_counter(), peak_rss_mb()
        if answered % 97 == 0:
            worst = min(worst, float(vector @ expected[answered % len(texts)]))
        answered += 1
    elapsed = time.perf_counter() - began
    if answered != job["count"]:
        raise SystemExit(f"answered {answered} of {job['count']} texts")
    figures = {
        "seconds": elapsed,
        "first_s": first - began,
        "texts_per_s": answered / elapsed,
        "cpu_s_per_1000": 1e3 * (time.process_time() - cpu) / answered,
        **others.figures(),
        "first_rss_mb": before,
        "peak_rss_mb": peak_rss_mb(),
    }
    return {"figures": figures, "cosine_min": worst}


def length(subject, job):
    """Texts of one length, a fixed number of tokens in all; the median of three calls."""
    texts = _texts(job)
    embed = subject.load(job)
    vectors, seconds, others = embed(texts), [], Others()
    for _ in range(3):
        began = time.perf_counter()
        vectors = embed(texts)
        seconds.append(time.perf_counter() - began)
    figures = {
        "seconds": _quantile(seconds, 0.5),
        "tokens_per_s": job["num_tokens"] / _quantile(seconds, 0.5),
        **others.figures(),
        "peak_rss_mb": peak_rss_mb(),
    }
    return {"figures": figures} | _agreement(vectors, job, slice(None))


def memory(subject, job):
    """One text, twice; the highest memory beside what the loaded model takes."""
    texts = _texts(job)
    embed = subject.load(job)
    held = resident_mb()
    embed(texts)
    others, began = Others(), time.perf_counter()
    vectors = embed(texts)
    seconds = time.perf_counter() - began
    figures = {
        "seconds": seconds,
        **others.figures(),
        "peak_rss_mb": peak_rss_mb(),
    }
    if held is not None:
        loaded_mb, before_mb = held
        figures |= {
            "loaded_mb": loaded_mb,
            "run_mb": figures["peak_rss_mb"] - loaded_mb,
            "peak_rss_mb": max(before_mb, figures["peak_rss_mb"]),
        }
    return {"figures": figures} | _agreement(vectors, job, slice(None))


def _texts(job):
    with open(job["texts"]) as file:  # noqa: PTH123 - pathlib is an import that not every subject makes
        return json.load(file)


def _asked(job):
    """(query, its documents) for each query."""
    texts, queries = _texts(job), job["queries"]
    each = (len(texts) - queries) // queries
    return [(texts[i], texts[queries + i * each : queries + (i + 1) * each]) for i in range(queries)]


def _result(job, figures, vectors, rows=slice(None), before=None, centred=False):
    import platform

    return {
        "figures": figures,
        "agreement_before": before,
        "agreement": _agreement(vectors, job, rows, centred),
        "python": platform.python_version(),
        "threads": job["threads"],
        "precision": job["precision"],
        "seed": job["seed"],
    }


def _agreement(vectors, job, rows, centred=False):
    """Cosines between vectors and the reference's of the same rows, and the largest difference of any component.

    Centred, the cosines are the correlations between one query's scores and the reference's.
    """
    import numpy as np

    expected = np.load(job["reference"], mmap_mode="r")[rows].astype(np.float64)
    found = np.asarray(vectors, dtype=np.float64)
    largest = float(np.abs(found - expected).max())
    if centred:
        found -= found.mean(axis=1, keepdims=True)
        expected -= expected.mean(axis=1, keepdims=True)
    cosines = (found * expected).sum(axis=1)
    cosines /= np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return {
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "max_abs_diff": largest,
    }


def _quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


ACTIONS = {
    "prepare": prepare,
    "describe": describe,
    "reference": reference,
    "start": start,
    "query": query,
    "bulk": bulk,
    "rerank": rerank,
    "stream": stream,
    "length": length,
    "memory": memory,
}

if __name__ == "__main__":
    main()
