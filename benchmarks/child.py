"""One case of one subject in this process; the last line of stdout is its JSON result."""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # before anything heavy is imported

import importlib  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from importlib import metadata  # noqa: E402
from pathlib import Path  # noqa: E402

WARM_QUERIES = 20


def main() -> None:
    job = json.loads(sys.argv[1])
    texts = json.loads(Path(job["texts"]).read_text())
    subject = importlib.import_module(f"benchmarks.subjects.{job['subject']}")
    embed = subject.load(job)
    first = embed(texts[:1])
    figures = {"start_s": time.perf_counter() - STARTED}
    vectors = first
    if job["kind"] == "query":
        for text in texts[:WARM_QUERIES]:
            embed([text])
        seconds, rows = [], []
        for text in texts:
            began = time.perf_counter()
            rows.append(embed([text]))
            seconds.append(time.perf_counter() - began)
        seconds.sort()
        figures["p50_ms"] = 1e3 * seconds[len(seconds) // 2]
        figures["p95_ms"] = 1e3 * seconds[len(seconds) * 95 // 100]
        vectors = [row[0] for row in rows]
    elif job["kind"] == "bulk":
        embed(texts[: len(texts) // 10])
        cpu = time.process_time()
        began = time.perf_counter()
        vectors = embed(texts)
        elapsed = time.perf_counter() - began
        figures["texts_per_s"] = len(texts) / elapsed
        figures["cpu_s_per_1000"] = 1e3 * (time.process_time() - cpu) / len(texts)
    figures["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import numpy as np

    np.save(job["vectors"], np.asarray(vectors, dtype=np.float32))
    versions = {name: metadata.version(name) for name in subject.PACKAGES}
    print(json.dumps({"figures": figures, "versions": versions, "python": platform.python_version()}))


main()
