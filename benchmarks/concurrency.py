"""Single texts of many threads, a query beside a bulk job, and how soon a cancelled call gives its thread back.

python -m benchmarks.concurrency BUNDLE --variants fp32,int8     # three minutes at most

Ways are measured in turn, round by round, in one process with one model; ratios are taken within a round and their
medians shown. Writes results/concurrency.json and .md; the last line printed is the JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime

from benchmarks import machine
from embedge import CallCancelledError, EdgeModel
from embedge.measure import sample_texts

RESULTS = Path(__file__).parent / "results"
_THREADS = 16
_TEXTS = 320
_QUERIES = 40
_CANCELS = 40


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concurrency")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variants", default="fp32,int8", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--most-s", type=float, default=160, help="after which no round is begun")
    asked = parser.parse_args()
    found = {
        "machine": machine.machine(),
        "load": os.getloadavg()[0],
        "onnxruntime": onnxruntime.__version__,
        "threads": asked.threads,
        "variants": {},
    }
    variants = asked.variants.split(",")
    for variant in variants:
        with EdgeModel(
            asked.bundle, device="cpu", variant=variant, threads=asked.threads, truncate_prompt_tokens=-1
        ) as model:
            found["variants"][model.info.variant] = measured(
                model, asked.rounds, asked.most_s / len(variants)
            )
    found["rounds"] = min(len(each["cancel_p95_ms"]) for each in found["variants"].values())
    (RESULTS / "concurrency.json").write_text(json.dumps(found, indent=2) + "\n")
    (RESULTS / "concurrency.md").write_text(page(found))
    print(page(found))
    print(json.dumps(found))


def measured(model: EdgeModel, rounds: int, most_s: float) -> dict:
    """All three, for one variant; each value is a list with one per round, of which there is at least one."""
    end = time.monotonic() + most_s
    texts = [" ".join(text.split()[:12]) for text in sample_texts(_TEXTS)]
    bulk = sample_texts(4000)
    model.embed(texts), model.embed(bulk[:400]), together(model, texts)
    found: dict[str, list[float]] = {
        name: []
        for name in (
            "one_by_one_texts_per_s", "threads_texts_per_s", "one_call_texts_per_s", "idle_query_p50_ms",
            "busy_query_p50_ms", "cancel_p50_ms", "cancel_p95_ms", "batch_ms",
        )
    }  # fmt: skip
    round_s = 0.0
    for done in range(rounds):
        began = time.monotonic()
        if done and began + round_s > end:
            break
        ways: dict[str, Callable[[], object]] = {
            "one_by_one_texts_per_s": lambda: [model.embed(text) for text in texts],
            "threads_texts_per_s": lambda: together(model, texts),
            "one_call_texts_per_s": lambda: model.embed(texts),
        }
        for name, way in ways.items():
            found[name].append(len(texts) / seconds(way))
        found["idle_query_p50_ms"].append(1000 * statistics.median(queries(model, texts)))
        found["busy_query_p50_ms"].append(1000 * statistics.median(beside(model, bulk, texts)))
        # the batches of a bulk job are of max_batch_tokens
        found["batch_ms"].append(1000 * seconds_of_a_batch(model, bulk))
        late = sorted(cancels(model, bulk))
        found["cancel_p50_ms"].append(1000 * late[len(late) // 2])
        found["cancel_p95_ms"].append(1000 * late[int(0.95 * len(late))])
        round_s = time.monotonic() - began
    return found


def together(model: EdgeModel, texts: Sequence[str]) -> None:
    """Each text in a call of its own, from many threads."""

    def work(mine: Sequence[str]) -> None:
        for text in mine:
            model.embed(text)

    threads = [threading.Thread(target=work, args=(texts[i::_THREADS],)) for i in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def queries(model: EdgeModel, texts: Sequence[str]) -> list[float]:
    """Seconds of single texts, one after another."""
    return [seconds(lambda text=text: model.embed(text)) for text in texts[:_QUERIES]]


def beside(model: EdgeModel, bulk: Sequence[str], texts: Sequence[str]) -> list[float]:
    """The same while another thread embeds very many."""
    over = threading.Event()

    def work() -> None:
        with contextlib.suppress(CallCancelledError):
            while not over.is_set():
                model.embed(bulk, cancel=over)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    found = queries(model, texts)
    over.set()
    thread.join()
    return found


def cancels(model: EdgeModel, bulk: Sequence[str]) -> list[float]:
    """Seconds from the moment that a bulk call is cancelled until it is back."""
    found = []
    for i in range(_CANCELS):
        told = threading.Event()
        back: list[float] = []

        def work(told=told, back=back) -> None:
            try:
                model.embed(bulk, cancel=told)
            except CallCancelledError:
                back.append(time.perf_counter())

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.1 + 0.01 * (i % 7))
        begun = time.perf_counter()
        told.set()
        thread.join()
        found.append(back[0] - begun)
    return found


def seconds_of_a_batch(model: EdgeModel, bulk: Sequence[str]) -> float:
    """Of a bulk job's, as far as its number of batches tells: time of the call by batches of each worker."""
    some = bulk[:400]
    taken = seconds(lambda: model.embed(some))
    tokens = sum(len(output.prompt_token_ids) for output in model.embed(some))
    return taken * model.info.workers * model.info.max_batch_tokens / tokens


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def page(found: dict) -> str:
    """The figures as Markdown."""
    facts = found["machine"]
    lines = [
        "# Calls at the same time",
        "",
        f"{facts['cpu']} (family {facts['family']}, model {facts['model']}), {facts['cores']} cores, "
        f"{', '.join(facts['flags'])}; onnxruntime {found['onnxruntime']}, {found['threads']} threads, "
        f"{found['rounds']} rounds, ways in turn, beside other programs (load {found['load']:.0f}): the ratios count. "
        f"Medians over the rounds; ratios within a round (and their range). `python -m "
        "benchmarks.concurrency BUNDLE` measures again.",
        "",
        "| | target | " + " | ".join(found["variants"]) + " |",
        "|---|---|" + "---:|" * len(found["variants"]),
    ]
    many = f"{_THREADS} threads of single texts"
    rows = (
        (f"{many}, to one by one", ">= 2.5x", "threads_texts_per_s", "one_by_one_texts_per_s"),
        (f"{many}, to one call with all", "", "threads_texts_per_s", "one_call_texts_per_s"),
        ("query beside a bulk job, p50, to idle", "<= 2x", "busy_query_p50_ms", "idle_query_p50_ms"),
        ("cancel to return of the thread, p95, to one batch", "<= 1x", "cancel_p95_ms", "batch_ms"),
    )  # fmt: skip
    for what, target, one, other in rows:
        cells = [_ratio(each[one], each[other]) for each in found["variants"].values()]
        lines.append(f"| {what} | {target} | {' | '.join(cells)} |")
    for name in next(iter(found["variants"].values())):
        cells = [f"{statistics.median(each[name]):,.1f}" for each in found["variants"].values()]
        lines.append(f"| {name.replace('_', ' ')} | | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ratio(ones: list[float], others: list[float]) -> str:
    ratios = [one / other for one, other in zip(ones, others, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}–{max(ratios):.2f})"


if __name__ == "__main__":
    main()
