"""`python -m benchmarks.scale > docs/guides/scale.md`: what a billion texts take, computed from benchmarks/results.

Pass your own numbers, of texts, days and prices, to see your own plan.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from string import Template

RESULTS = Path(__file__).parent / "results"
CORE_CASES = (
    ("minilm/short", "embedge-int8"),
    ("minilm/short", "embedge-fp32"),
    ("minilm/passages", "embedge-int8"),
    ("minilm/passages", "embedge-fp32"),
    ("bert-base/passages", "embedge-int8"),
    ("bert-base/passages", "embedge-fp32"),
)
GPU_CASES = (("all-MiniLM-L6-v2", "bulk_minilm"), ("BERT base", "bulk"))
MODELS = {"minilm": "all-MiniLM-L6-v2", "bert-base": "BERT base"}
DIMENSIONS = (384, 768)
BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "binary": 1 / 8}
CPU_BATCH, GPU_BATCH = 2048, 32_768
DAY_S = 86_400


@dataclass(frozen=True)
class Assumed:
    """What nobody measured here.

    Attributes:
        texts: to embed.
        days: in which.
        busy: share of the time in which actors compute; the rest goes to starts, reading, writing and stragglers.
        core_hour, gpu_hour: prices in one currency.
    """

    texts: int
    days: float
    busy: float
    core_hour: float
    gpu_hour: float

    def units(self, rate: float) -> int:
        """Actors that are done in time, each with this many texts a second."""
        return math.ceil(self.texts / (rate * self.busy * self.days * DAY_S))

    def hours_per_million(self, rate: float) -> float:
        """Hours of one actor for a million texts."""
        return 1e6 / (rate * self.busy) / 3600


def core_rows(assumed: Assumed) -> list[str]:
    """A line of the table for each measured case on a CPU."""
    cases, lines = json.loads((RESULTS / "cpu.json").read_text())["cases"], []
    for name, subject in CORE_CASES:
        case = cases[name]
        measured = case["subjects"].get(subject)
        if measured is None:
            continue
        runs = measured["runs"]
        rate = statistics.median(run["texts_per_s"] for run in runs) / case["threads"]
        memory = max(run["peak_rss_mb"] for run in runs)
        hours = assumed.hours_per_million(rate)
        lines.append(
            f"| {MODELS[case['model']]} {measured['precision']} | {case['texts']['tokens_mean']:.0f} | {rate:,.0f} | "
            f"{assumed.units(rate):,} | {memory:.0f} MB | {hours:.2f} | {hours * assumed.core_hour:.3f} |"
        )
    return lines


def gpu_rows(assumed: Assumed) -> list[str]:
    """A line of the table for each measured case on a GPU."""
    results, lines = json.loads((RESULTS / "gpu.json").read_text()), []
    cores = results["machine"]["host"]["cores"]
    for name, key in GPU_CASES:
        case = results[key]
        rate = max(case["texts_per_s"].values())
        # one actor tokenises for its GPU: so many of the host's processors keep up with it
        beside = math.ceil(cores * rate / case["tokenise_texts_per_s"])
        hours = assumed.hours_per_million(rate)
        cost = hours * (assumed.gpu_hour + beside * assumed.core_hour)
        lines.append(
            f"| {name} {case['info']['variant']} | {case['tokens'] / case['texts']:.0f} | {rate:,.0f} | "
            f"{assumed.units(rate):,} | {beside} | {hours:.4f} | {cost:.3f} |"
        )
    return lines


def sizes(assumed: Assumed) -> list[str]:
    """What the vectors take."""
    return [
        f"| {size} | "
        + " | ".join(f"{assumed.texts * size * each / 1e9:,.0f} GB" for each in BYTES.values())
        + " |"
        for size in DIMENSIONS
    ]


def measured() -> str:
    """What two actors on two processors are to one, where that was measured."""
    file = RESULTS / "actors.json"
    if not file.is_file():
        return ""
    found = json.loads(file.read_text())
    return (
        f" Measured with Ray {found['ray']} on {found['machine']['cores']} processors, which also read and "
        f"split the file: two actors do {found['two_to_one']:.2f} times what one does."
    )


def page(assumed: Assumed) -> str:
    """The whole page."""
    cpu = json.loads((RESULTS / "cpu.json").read_text())
    gpu = json.loads((RESULTS / "gpu.json").read_text())
    fast = cpu["cases"][CORE_CASES[0][0]]
    rate = (
        statistics.median(r["texts_per_s"] for r in fast["subjects"][CORE_CASES[0][1]]["runs"])
        / fast["threads"]
    )
    return Template((Path(__file__).parent / "scale.md").read_text()).substitute(
        texts=f"{assumed.texts:,}",
        days=f"{assumed.days:g}",
        busy=f"{assumed.busy:.0%}",
        lost=f"{1 - assumed.busy:.0%}",
        core_hour=f"{assumed.core_hour:g}",
        gpu_hour=f"{assumed.gpu_hour:g}",
        cpu=f"{cpu['machine']['cpu']}, {cpu['machine']['cores']} cores, of which each actor has one",
        gpu=f"{gpu['machine']['cards'][0]}, {gpu['machine']['host']['cores']} processors beside it",
        measured=measured(),
        core_rows="\n".join(core_rows(assumed)),
        gpu_rows="\n".join(gpu_rows(assumed)),
        precisions=" | ".join(BYTES),
        rules="|---" * (len(BYTES) + 1) + "|",
        sizes="\n".join(sizes(assumed)),
        cpu_batch=f"{CPU_BATCH:,}",
        cpu_batch_s=f"{CPU_BATCH / rate:.1f}",
        gpu_batch=f"{GPU_BATCH:,}",
        cpu_number=CPU_BATCH,
        million_min=f"{1e6 / (rate * fast['threads']) / 60:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1_000_000_000)
    parser.add_argument("--days", type=float, default=3)
    parser.add_argument("--busy", type=float, default=0.85, help="share of the time in which actors compute")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of a processor")
    parser.add_argument("--gpu-hour", type=float, default=3.0, help="price of a GPU")
    print(page(Assumed(**vars(parser.parse_args()))), end="")


if __name__ == "__main__":
    main()
