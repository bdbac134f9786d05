"""Single queries of many clients against `embedge serve`, and the same one by one; every answer is compared.

python -m benchmarks.serving BUNDLE --clients 32 --requests 4000

Both ways are measured in turn, round by round, on one server. The clients share its processors, so they do no more
than send and receive; answers are compared with the SDK's between the rounds. Writes results/serving.md; the last line
printed is JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
    parser.add_argument("--profile", default="latency", help="of the server")
    parser.add_argument("--output", type=Path, default=RESULTS / "serving.md")
    asked = parser.parse_args()
    texts = [f"{number} {' '.join(text.split()[:12])}" for number, text in enumerate(sample_texts(500))]
    with EdgeModel(asked.bundle, device="cpu", truncate_prompt_tokens=-1) as model:
        expected = np.concatenate([model.embed(text).numpy() for text in texts])
    command = [sys.executable, "-m", "embedge", "serve", str(asked.bundle), "--port", "0", "--device", "cpu"]
    command += ["--profile", asked.profile]
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


class Client:
    """Asks a server over one connection for each thread."""

    def __init__(self, address: str, texts: list[str]) -> None:
        self._place = urllib.parse.urlsplit(address).netloc
        self._bodies = [json.dumps({"inputs": text, "truncate": True}).encode() for text in texts]
        self._here = threading.local()

    def connect_anew(self) -> None:
        """Ask over a new connection in this thread: the server closes one that nothing is asked over."""
        self._here.__dict__.clear()

    def ask(self, number: int) -> tuple[int, float, bytes]:
        """The text of a number: its position, milliseconds, and the answer's body."""
        if not hasattr(self._here, "connection"):
            self._here.connection = http.client.HTTPConnection(self._place, timeout=60)
        connection, position = self._here.connection, number % len(self._bodies)
        began = time.perf_counter()
        connection.request("POST", "/embed", self._bodies[position], {"Content-Type": "application/json"})
        body = connection.getresponse().read()
        return position, 1000 * (time.perf_counter() - began), body


def processor_s(pid: int) -> float | None:
    """Seconds of processors that a process took, where the system says so."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return None
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float | None:
    resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(resident[1]) / 1024 if resident else None


def differences(answers: list[tuple[int, float, bytes]], expected: np.ndarray) -> list[float]:
    """Largest difference of each answer's components from the SDK's; infinite for what is no answer."""
    found = []
    for position, _, body in answers:
        given = json.loads(body)
        same_shape = isinstance(given, list) and np.shape(given) == (1, expected.shape[1])
        found.append(float(np.abs(np.float32(given[0]) - expected[position]).max()) if same_shape else np.inf)
    return found


def measured(address: str, pid: int, texts: list[str], expected: np.ndarray, asked) -> dict:
    """Rates and latencies per round, what differs, and the server's memory at the start and after each round."""
    found: dict = {"alone_per_s": [], "together_per_s": [], "p50_ms": [], "p95_ms": []}
    found["processor_ms"] = []
    found["memory_mb"] = [memory_mb(pid)]
    each = max(asked.requests // asked.rounds, asked.clients)
    differ: list[float] = []
    client = Client(address, texts)
    for number in range(50):
        client.ask(number)
    for _ in range(asked.rounds):
        client.connect_anew()
        began = time.perf_counter()
        alone = [client.ask(number) for number in range(min(each // 4, 1000))]
        found["alone_per_s"].append(len(alone) / (time.perf_counter() - began))
        with ThreadPoolExecutor(asked.clients) as pool:
            began, took_s = time.perf_counter(), processor_s(pid)
            together = list(pool.map(client.ask, range(each)))
            found["together_per_s"].append(each / (time.perf_counter() - began))
            if took_s is not None:
                found["processor_ms"].append(1000 * (processor_s(pid) - took_s) / each)
        latencies = statistics.quantiles([latency for _, latency, _ in together], n=20)
        found["p50_ms"].append(latencies[9])
        found["p95_ms"].append(latencies[18])
        found["memory_mb"].append(memory_mb(pid))
        differ += differences(alone + together, expected)
    return found | {
        "answered": len(differ),
        "wrong": sum(each > _TOLERANCE for each in differ),
        "same_bytes": sum(each == 0 for each in differ),
        "largest_difference": max(differ),
    }


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
        "processor time of the server per request of many clients, ms": (
            f"{statistics.median(found['processor_ms']):.2f}" if found["processor_ms"] else "not known here"
        ),
        "answers; lost, wrong or swapped": f"{found['answered']:,}; {found['wrong']}",
        "with the same bytes as the SDK's; largest difference of the others": (
            f"{found['same_bytes'] / found['answered']:.0%}; {found['largest_difference']:.1e}"
        ),
        "server's memory at the start, after the first and the last round, MB": " ".join(
            f"{found['memory_mb'][i]:.0f}" for i in (0, 1, -1)
        ),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["# Serving", "", "| single queries over HTTP | |", "|---|---|", *lines, ""])


if __name__ == "__main__":
    main()
