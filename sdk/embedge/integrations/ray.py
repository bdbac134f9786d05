"""A bundle in Ray Data: `dataset.map_batches(EncodeBatches, fn_constructor_kwargs={"bundle": ...}, ...)`.

Each actor loads the bundle once and uses as many processors, or the GPU, as Ray gave it (num_cpus, num_gpus). Leave a
processor to the tasks that read and write: with all of them held by actors, Ray waits forever. An actor gets whole
blocks, and a file may be one: `dataset.repartition(target_num_rows_per_block=2048)` gives each actor some of them.
Tested with ray 2.60.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedge.integrations._columns import ColumnCall, ColumnTask, compute, load_within
from embedge.integrations._tested import tested
from embedge.params import PoolingParams
from embedge.types import FloatArray, LongText

with tested("ray", "2.60.0"):
    import ray

__all__ = ["EncodeBatches"]


class EncodeBatches:
    """Adds a column of numbers to each batch; for `ray.data.Dataset.map_batches`.

    Batches of format "numpy", "pandas" and "pyarrow" are taken, and given back in the same. Rows are as a process alone
    would compute them with the same batch_size and threads. An actor that dies is started again by Ray, and its batches
    with it; a batch that cannot be computed ends the job with the error.

    Args:
        bundle: a folder that lies at the same path on every machine, or a name in the store of each.
        column: of the texts.
        pair_column: of the second text of each pair, for task "score".
        output_column: of the numbers: a row of float32 for each text, a float32 for each pair.
        task: "embed", "classify" or "score".
        pooling_params: as for EdgeModel.encode.
        tower: as for EdgeModel.embed; None takes that of documents, where there are several.
        prompt_name: as for EdgeModel.embed; for "score" that of queries.
        prompt: as for EdgeModel.embed; for "score" the instruction.
        long_text: as for EdgeModel.embed.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}. Where they do not say, "device" is
            the GPU that Ray gave the actor, or "cpu", and "threads" are the processors that it gave.

    Raises:
        ParamsError: the task or its columns do not fit.
        EmbedgeError: the bundle cannot be loaded; see EdgeModel.
    """

    def __init__(
        self,
        bundle: str,
        *,
        column: str = "text",
        pair_column: str | None = None,
        output_column: str = "embedding",
        task: ColumnTask = "embed",
        pooling_params: PoolingParams | None = None,
        tower: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        long_text: LongText = "truncate",
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._call = ColumnCall(
            column=column,
            pair_column=pair_column,
            output_column=output_column,
            task=task,
            pooling_params=pooling_params,
            tower=tower,
            prompt_name=prompt_name,
            prompt=prompt,
            long_text=long_text,
        )
        given = ray.get_runtime_context().get_assigned_resources() if ray.is_initialized() else {}
        self.model = load_within(
            str(bundle),
            model_kwargs,
            device="cuda" if given.get("GPU") else "cpu",
            threads=max(1, int(given.get("CPU", 0))),
        )

    def __call__(self, batch: Any) -> Any:
        """A batch with the column of numbers beside its own.

        Args:
            batch: a dict of arrays, a pandas.DataFrame or a pyarrow.Table.

        Raises:
            ParamsError: a column is missing.
            PromptError: a cell is no text, or too long for long_text "error".
        """
        numbers = compute(self.model, batch, self._call)
        name = self._call.output_column
        if isinstance(batch, dict):
            return {**batch, name: numbers}
        if hasattr(batch, "append_column"):
            return _with_column(batch, name, numbers)
        return batch.assign(**{name: list(numbers) if numbers.ndim > 1 else numbers})


def _with_column(table: Any, name: str, numbers: FloatArray) -> Any:
    """A table with rows of a fixed size, which every reader of Parquet takes for lists."""
    import pyarrow

    column = pyarrow.array(numbers.ravel())
    if numbers.ndim > 1:
        column = pyarrow.FixedSizeListArray.from_arrays(column, numbers.shape[1])
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)
