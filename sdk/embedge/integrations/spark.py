"""A bundle in Spark: `encode_column(frame, bundle)` is the frame with a column of numbers, by mapInPandas.

Tested with pyspark 4.3.0 and Java 17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from embedge.integrations._columns import ColumnCall, ColumnTask, compute, load_within
from embedge.integrations._tested import tested
from embedge.model import EdgeModel
from embedge.params import PoolingParams
from embedge.types import LongText

if TYPE_CHECKING:
    import pandas

with tested("pyspark", "4.3.0"):
    from pyspark import TaskContext
    from pyspark.sql import DataFrame
    from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

__all__ = ["encode_column"]


def encode_column(
    frame: DataFrame,
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
) -> DataFrame:
    """A frame with a column of numbers beside its own; nothing is computed before Spark needs it.

    Each of Spark's Python processes loads the bundle once and keeps it. What it is asked at a time is what
    spark.sql.execution.arrow.maxRecordsPerBatch says, 10,000 rows by default; rows are as a process alone would compute
    them of the same batches and threads.

    Args:
        frame: any DataFrame with a column of strings.
        bundle: a folder that lies at the same path on every machine, or a name in the store of each.
        column: of the texts.
        pair_column: of the second text of each pair, for task "score".
        output_column: of the numbers: array<float> for each text, float for each pair.
        task: "embed", "classify" or "score".
        pooling_params: as for EdgeModel.encode.
        tower: as for EdgeModel.embed; None takes that of documents, where there are several.
        prompt_name: as for EdgeModel.embed; for "score" that of queries.
        prompt: as for EdgeModel.embed; for "score" the instruction.
        long_text: as for EdgeModel.embed.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}. Where they do not say, "device" is
            "cpu", and "threads" are spark.task.cpus, what Spark counts a task as.

    Raises:
        ParamsError: the task or its columns do not fit.
    """
    call = ColumnCall(
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
    kept = [field for field in frame.schema.fields if field.name != output_column]
    numbers = FloatType() if task == "score" else ArrayType(FloatType(), containsNull=False)
    schema = StructType([*kept, StructField(output_column, numbers, nullable=False)])
    return frame.mapInPandas(_in_pandas(call, str(bundle), model_kwargs), schema)


def _in_pandas(
    call: ColumnCall, bundle: str, model_kwargs: Mapping[str, Any] | None
) -> Callable[[Iterator[pandas.DataFrame]], Iterator[pandas.DataFrame]]:
    def encode(batches: Iterator[Any]) -> Iterator[Any]:
        model = _kept_model(bundle, model_kwargs)
        for batch in batches:
            numbers = compute(model, batch, call)
            yield batch.assign(**{call.output_column: list(numbers) if numbers.ndim > 1 else numbers})

    return encode


def _kept_model(bundle: str, model_kwargs: Mapping[str, Any] | None) -> EdgeModel:
    """The model of this process, kept for its later tasks."""
    context = TaskContext.get()
    threads = max(1, context.cpus()) if context is not None else 1
    model = load_within(bundle, model_kwargs, device="cpu", threads=threads)
    _KEPT[:] = [model]
    return model


_KEPT: list[EdgeModel] = []
