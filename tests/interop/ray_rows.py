"""Parquet in, Parquet out, in a local Ray: INPUT BUNDLE OUTPUT."""

import logging
import os
import signal
import sys
from pathlib import Path

import ray

from embedge import PoolingParams
from embedge.integrations.ray import EncodeBatches

source, bundle, output = sys.argv[1:4]
BATCH = 64


class KilledOnce(EncodeBatches):
    """Dies as an actor does on a machine that is taken away: in the midst, and without a word."""

    def __call__(self, batch):
        if any(row == 500 for row in batch["row"].tolist()):
            try:
                Path(f"{output}.killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        num_rows, actor = len(batch["row"]), ray.get_runtime_context().get_actor_id()
        return super().__call__(batch) | {
            "threads": [self.model.info.threads] * num_rows,
            "actor": [actor] * num_rows,
        }


class InLists(EncodeBatches):
    """Leaves lists where Ray has a type of its own, which other readers do not know."""

    def __call__(self, batch):
        frame = super().__call__(batch)
        return frame.assign(**{name: [row.tolist() for row in frame[name]] for name in ("numpy", "pandas")})


def step(rows, encode, batch_format, num_actors, **arguments):
    return rows.map_batches(
        encode,
        fn_constructor_kwargs={"bundle": bundle, "output_column": batch_format, **arguments},
        batch_size=BATCH,
        batch_format=batch_format,
        compute=ray.data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
    )


logging.getLogger("ray").setLevel(logging.ERROR)
ray.init(
    num_cpus=5,  # four for the actors, one for reading and writing; most of them wait
    include_dashboard=False,
    object_store_memory=100 * 2**20,
    log_to_driver=False,
    logging_level=logging.ERROR,
)
context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
context.wait_for_min_actors_s = 120  # so that both have their share of so small a job
# one file of one row group is one block, which a single actor would compute
rows = ray.data.read_parquet(source).repartition(target_num_rows_per_block=BATCH)
rows = step(rows, KilledOnce, "numpy", 2)
rows = step(rows, InLists, "pandas", 1, pooling_params=PoolingParams(normalize=False))
step(rows, EncodeBatches, "pyarrow", 1, prompt="the ").write_parquet(output)
ray.shutdown()
