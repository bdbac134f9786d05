"""python -m benchmarks.actors BUNDLE: two actors of Ray on two processors against one; runs in .venvs/engines.

One file of texts, as the guide has it: split into blocks of a batch, so that every actor gets some. One actor and two
take turns in one Ray. What is compared is the time from the first batch to the last, as starts take the same. Writes
results/actors.json, which `python -m benchmarks.scale` states.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import ray

from benchmarks.files import write_texts
from benchmarks.machine import machine
from embedge.integrations.ray import EncodeBatches

RESULTS = Path(__file__).parent / "results" / "actors.json"


class Timed(EncodeBatches):
    """Says when each batch was computed, and by which actor."""

    def __call__(self, batch):
        """A row for the batch."""
        began = time.time()
        num_rows = super().__call__(batch).num_rows
        actor = ray.get_runtime_context().get_actor_id()
        told = {"actor": actor, "threads": self.model.info.threads, "rows": num_rows}
        return pyarrow.Table.from_pylist([told | {"began": began, "ended": time.time()}])


def job(bundle: Path, texts: Path, num_actors: int, batch: int, variant: str) -> dict:
    """Figures of one job."""
    began = time.time()
    rows = (
        ray.data.read_parquet(str(texts))
        .repartition(target_num_rows_per_block=batch)
        .map_batches(
            Timed,
            fn_constructor_kwargs={"bundle": str(bundle), "model_kwargs": {"variant": variant}},
            batch_size=batch,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            num_cpus=1,
        )
        .take_all()
    )
    busy_s = max(row["ended"] for row in rows) - min(row["began"] for row in rows)
    return {
        "wall_s": round(time.time() - began, 1),
        "busy_s": round(busy_s, 2),
        "texts_per_s": round(sum(row["rows"] for row in rows) / busy_s, 1),
        "actors": len({row["actor"] for row in rows}),
        "threads": sorted({row["threads"] for row in rows}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.actors", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--look", action="store_true", help="print figures, and write none")
    asked = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.ERROR)
    # two processors for the actors, one for reading and splitting
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.wait_for_min_actors_s = 300
    jobs: dict[int, list[dict]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder, "texts.parquet")
        write_texts(texts, asked.rows)
        for _ in range(asked.rounds):
            for num_actors, done in jobs.items():
                done.append(job(asked.bundle.resolve(), texts, num_actors, asked.batch, asked.variant))
                print(num_actors, done[-1], file=sys.stderr)
    ray.shutdown()
    ratios = [one["busy_s"] / two["busy_s"] for one, two in zip(*jobs.values(), strict=True)]
    found = {
        "machine": machine(),
        "ray": ray.__version__,
        "variant": asked.variant,
        "rows": asked.rows,
        "batch": asked.batch,
        "jobs": jobs,
        "two_to_one": round(statistics.median(ratios), 2),
    }
    if not asked.look:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
