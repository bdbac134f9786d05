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


class KilledOnce(EncodeBatches):
    """Dies as an actor does on a machine that is taken away: in the midst, and without a word."""

    def __call__(self, batch):
        if any(row == 500 for row in batch["row"].tolist()):
            try:
                Path(output, "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        num_rows, actor = len(batch["row"]), ray.get_runtime_context().get_actor_id()
        return super().__call__(batch) | {
            "threads": [self.model.info.threads] * num_rows,
            "actor": [actor] * num_rows,
        }


def job(name, encode, batch_format, num_actors, **arguments):
    rows = (
        ray.data.read_parquet(source, override_num_blocks=4)
        .repartition(4)
        .map_batches(
            encode,
            fn_constructor_kwargs={"bundle": bundle, **arguments},
            batch_size=64,
            batch_format=batch_format,
            compute=ray.data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
        )
    )
    if batch_format != "pyarrow":  # Ray's own type of tensor, which other readers do not know
        rows = rows.map_batches(as_lists, batch_format="pandas")
    rows.write_parquet(f"{output}/{name}")


def as_lists(frame):
    return frame.assign(embedding=[row.tolist() for row in frame["embedding"]])


logging.getLogger("ray").setLevel(logging.ERROR)
Path(output).mkdir()
ray.init(
    num_cpus=3,  # two for the actors, one for reading and writing
    include_dashboard=False,
    object_store_memory=100 * 2**20,
    log_to_driver=False,
    logging_level=logging.ERROR,
)
context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
context.wait_for_min_actors_s = 120  # so that both have their share of so small a job
job("numpy", KilledOnce, "numpy", 2)
job("pandas", EncodeBatches, "pandas", 1, pooling_params=PoolingParams(normalize=False))
job("pyarrow", EncodeBatches, "pyarrow", 1, prompt="the ")
ray.shutdown()
