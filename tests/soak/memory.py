"""What a model takes of the memory: loaded, in calls with a limit and without one, and after its results are dropped.

python -m tests.soak.memory BUNDLE --write     # a bundle with fp32; figures into benchmarks/results/reliability.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime
from tests.soak import figures

from embedge import EdgeModel
from embedge._machine.cpu import cpu_name

LIMIT_MIB = 40
_STATUS = Path("/proc/self/status")
_TEXT = "word " * 600


def apart(measure, *arguments):
    """What a function measures in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def mib(key: str) -> float:
    lines = _STATUS.read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def begin() -> float:
    """Resident memory now, from which on the peak is counted."""
    Path("/proc/self/clear_refs").write_text("5")
    return mib("VmRSS")


def loading(folder: Path, variant: str, profile: str) -> tuple[float, float]:
    """MiB of a load beside what the process had: at most, and after it."""
    import embedge._calls.loading
    import embedge._engine.options
    import embedge._text.tokenizer  # noqa: F401

    before = begin()
    with EdgeModel(folder, device="cpu", variant=variant, profile=profile, threads=2) as model:
        most, loaded = mib("VmHWM") - before, mib("VmRSS") - before
        model.embed("one")
    return most, loaded


def second_session(folder: Path, variant: str, shared: bool = True) -> tuple[float, float, float]:
    """MiB beside what the process had: loaded, when workers have a session of their own, and closed.

    Not shared: each session has a copy of the tables.
    """
    import embedge._calls.loading
    import embedge._engine.opening
    import embedge._engine.options
    import embedge._text.tokenizer

    if not shared:
        embedge._engine.opening.SharedTables = lambda: None
    before = begin()
    with EdgeModel(folder, device="cpu", variant=variant, threads=2) as model:
        model.embed("one")
        loaded = mib("VmRSS") - before
        model.embed(["word " * 30] * 200)
        opened = mib("VmRSS") - before
    return loaded, opened, mib("VmRSS") - before


def calls_at_once(folder: Path, limit: int | None) -> tuple[float, float]:
    """MiB that two calls of long texts take beside the loaded model: at most, and when they are done."""
    with EdgeModel(
        folder,
        device="cpu",
        variant="fp32",
        threads=2,
        profile="throughput",
        max_batch_tokens=8192,
        max_memory_mb=limit,
        truncate_prompt_tokens=-1,
    ) as model:
        model.embed("one")
        model.embed(["one", "two"])
        before = begin()
        threads = [threading.Thread(target=model.embed, args=([_TEXT] * 40,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return mib("VmHWM") - before, mib("VmRSS") - before


def dropped_results(folder: Path) -> tuple[float, float, float]:
    """MiB of token embeddings, of the process while they are held, and when they are dropped."""
    texts = ["word " * (10 + i % 120) for i in range(600)]
    with EdgeModel(folder, device="cpu", variant="fp32", threads=2, profile="throughput") as model:
        model.embed(texts[:60])
        before = begin()
        outputs = model.encode(texts, pooling_task="token_embed")
        size = sum(output.outputs.data.nbytes for output in outputs) / 2**20
        held = mib("VmRSS") - before
        del outputs
        return size, held, mib("VmRSS") - before


def section(folder: Path) -> str:
    """All of it, as Markdown."""
    free, held = apart(calls_at_once, folder, None), apart(calls_at_once, folder, LIMIT_MIB)
    size, with_results, without = apart(dropped_results, folder)
    latency, workers = (apart(loading, folder, "fp32", profile) for profile in ("latency", "background"))
    rows = [
        ("loading fp32", *latency),
        ('the same with profile="background"', *workers),
        ("two calls of 40 long texts, max_batch_tokens=8192", *free),
        (f"the same with max_memory_mb={LIMIT_MIB}", *held),
        (f"{size:.0f} MiB of token embeddings, then dropped", with_results, without),
    ]
    return "\n".join(
        [
            "## Memory",
            "",
            f"`python -m tests.soak.memory BUNDLE --write`, {datetime.now(UTC):%Y-%m-%d}: "
            f"{folder.resolve().name} on {cpu_name()}, onnxruntime {onnxruntime.__version__}; each line in a process "
            "of its own, resident memory in MiB beside what the process had before.",
            "",
            "| | at most | then |",
            "|---|---:|---:|",
            *(f"| {name} | {most:.0f} | {then:.0f} |" for name, most, then in rows),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.memory")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/reliability.md")
    asked = parser.parse_args()
    text = section(asked.bundle)
    print(text)
    if asked.write:
        figures.write("memory", text)


if __name__ == "__main__":
    main()
