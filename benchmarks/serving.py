"""Single queries of many clients against `embedge serve`, and the same one by one; every answer is compared.

python -m benchmarks.serving BUNDLE --clients 32 --requests 4000

Both ways are measured in turn, round by round, on one server. Writes results/serving.md; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from benchmarks import machine
from embedge import EdgeModel
from embedge.measure import sample_texts

RESULTS = Path(__file__).parent / "results"
_TOLERANCE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=4000, help="of all clients, in all rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "serving.md")
    asked = parser.parse_args()
    texts = [f"{number} {' '.join(text.split()[:12])}" for number, text in enumerate(sample_texts(500))]
    with EdgeModel(asked.bundle, device="cpu", truncate_prompt_tokens=-1) as model:
        expected = np.concatenate([model.embed(text).numpy() for text in texts])
    command = [sys.executable, "-m", "embedge", "serve", str(asked.bundle), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed = iter(process.stdout or ())
            address = next(found[1] for line in printed if (found := re.search(r"listening at (\S+)", line)))
            found = measured(address, process.pid, texts, expected, asked)
        finally:
            process.terminate()
    found |= {"machine": machine.machine(), "load": os.getloadavg()[0], "clients": asked.clients}
    asked.output.write_text(page(found))
    print(page(found))
    print(json.dumps(found))


def measured(address: str, pid: int, texts: list[str], expected: np.ndarray, asked) -> dict:
    """Rates and latencies per round, wrong answers, and the server's memory after the first round and the last."""
    found: dict = {"alone_per_s": [], "together_per_s": [], "p50_ms": [], "p95_ms": [], "memory_mb": []}
    wrong = answered = 0
    each = max(asked.requests // asked.rounds, asked.clients)
    with httpx.Client(
        base_url=address, timeout=60, limits=httpx.Limits(max_connections=asked.clients)
    ) as http:

        def ask(number: int) -> tuple[float, bool]:
            began = time.perf_counter()
            given = http.post("/embed", json={"inputs": texts[number % len(texts)], "truncate": True}).json()
            latency_ms = 1000 * (time.perf_counter() - began)
            return latency_ms, bool(
                np.abs(np.array(given) - expected[number % len(texts)]).max() < _TOLERANCE
            )

        for number in range(50):
            ask(number)
        for _ in range(asked.rounds):
            began = time.perf_counter()
            alone = [ask(number) for number in range(each // 4)]
            found["alone_per_s"].append(len(alone) / (time.perf_counter() - began))
            with ThreadPoolExecutor(asked.clients) as pool:
                began = time.perf_counter()
                together = list(pool.map(ask, range(each)))
                found["together_per_s"].append(each / (time.perf_counter() - began))
            latencies = statistics.quantiles([latency for latency, _ in together], n=20)
            found["p50_ms"].append(latencies[9])
            found["p95_ms"].append(latencies[18])
            answered += len(alone) + len(together)
            wrong += sum(not right for _, right in alone + together)
            resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            found["memory_mb"].append(int(resident[1]) / 1024 if resident else None)
    return found | {"answered": answered, "wrong": wrong}


def page(found: dict) -> str:
    """The figures as Markdown."""
    ratios = [b / a for a, b in zip(found["alone_per_s"], found["together_per_s"], strict=True)]
    tails = [b / a for a, b in zip(found["p50_ms"], found["p95_ms"], strict=True)]
    rows = {
        "one by one, requests/s": f"{statistics.median(found['alone_per_s']):.0f}",
        f"{found['clients']} clients, requests/s": f"{statistics.median(found['together_per_s']):.0f}",
        "ratio within a round": f"{statistics.median(ratios):.2f}",
        "p50, ms": f"{statistics.median(found['p50_ms']):.1f}",
        "p95, ms": f"{statistics.median(found['p95_ms']):.1f}",
        "p95 / p50": f"{statistics.median(tails):.2f}",
        "answers; lost, wrong or swapped": f"{found['answered']:,}; {found['wrong']}",
        "server's memory after the first and the last round, MB": " ".join(
            f"{found['memory_mb'][i]:.0f}" for i in (0, -1)
        ),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["# Serving", "", "| single queries over HTTP | |", "|---|---|", *lines, ""])


if __name__ == "__main__":
    main()
