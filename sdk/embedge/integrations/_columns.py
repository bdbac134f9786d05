"""What is computed of a column of texts: the same for every engine, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np

from embedge.errors import ParamsError, PromptError, expected_one_of
from embedge.integrations._loading import loaded
from embedge.model import EdgeModel
from embedge.params import PoolingParams
from embedge.types import FloatArray, LongText

ColumnTask: TypeAlias = Literal["embed", "classify", "score"]


class ColumnCall(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked; fields not described here mean what they mean to EdgeModel.

    Attributes:
        column: of the texts.
        pair_column: of the second text of each pair, for "score".
        output_column: of the numbers.
        task: "embed" and "classify" give a row for each text, "score" a number for each pair.

    Raises:
        ParamsError: the task is none of these, or pairs are given for another than "score".
    """

    column: str = "text"
    pair_column: str | None = None
    output_column: str = "embedding"
    task: ColumnTask = "embed"
    pooling_params: PoolingParams | None = None
    tower: str | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    long_text: LongText = "truncate"

    def __post_init__(self) -> None:
        """Refuse what no model could answer, before any is loaded."""
        if self.task not in ("embed", "classify", "score"):
            raise ParamsError(f"task={self.task!r} is not known; expected embed, classify or score")
        if (self.pair_column is not None) != (self.task == "score"):
            raise ParamsError(
                f"pair_column={self.pair_column!r} is given for task {self.task!r}; "
                "expected pairs for score, and only there"
            )
        if self.long_text == "mean" and self.task != "embed":
            raise ParamsError(
                f"long_text='mean' is for task 'embed'; expected error or truncate for {self.task!r}"
            )


def load_within(
    bundle: str, model_kwargs: Mapping[str, Any] | None, *, device: str, threads: int
) -> EdgeModel:
    """The model of a process of an engine, on no more processors than the engine counts it as.

    Args:
        bundle: as EdgeModel takes it.
        model_kwargs: arguments of EdgeModel, which go before the following.
        device: that the engine gave.
        threads: likewise.

    Raises:
        EmbedgeError: as EdgeModel.
    """
    arguments = {"device": device, "threads": threads, **(model_kwargs or {})}
    # the tokenizers package knows of no limit but this one, which it reads at its first batch
    os.environ.setdefault("RAYON_NUM_THREADS", str(arguments["threads"] or threads))
    return loaded(bundle, arguments)


def compute(model: EdgeModel, batch: Any, call: ColumnCall) -> FloatArray:
    """Numbers of a batch.

    Args:
        model: the loaded model.
        batch: columns by name: a dict of arrays, a pandas.DataFrame or a pyarrow.Table.
        call: what is asked.

    Returns:
        float32 (num_rows, dimensions), (num_rows, num_labels), or (num_rows,) for scores.

    Raises:
        ParamsError: a column is missing.
        PromptError: a cell is no text, or too long for long_text "error"; its index is the row of the batch.
    """
    texts = _texts(batch, call.column)
    limit = None if call.long_text == "error" else -1
    if not texts:
        return _no_rows(model, call)
    if call.task == "score":
        assert call.pair_column is not None
        scores = model.score(
            texts,
            _texts(batch, call.pair_column),
            pooling_params=call.pooling_params,
            truncate_prompt_tokens=limit,
            query_prompt_name=call.prompt_name,
            instruction=call.prompt,
        )
        return scores.numpy()
    if call.task == "embed":
        rows = model.embed(
            texts,
            pooling_params=call.pooling_params,
            tower=model.manifest.tower_for("document") if call.tower is None else call.tower,
            prompt_name=call.prompt_name,
            prompt=call.prompt,
            long_text=call.long_text,
        )
        return rows.numpy()
    labels = model.encode(
        texts,
        call.pooling_params,
        pooling_task="classify",
        prompt_name=call.prompt_name,
        prompt=call.prompt,
        truncate_prompt_tokens=limit,
    )
    return np.stack([each.outputs.data for each in labels])


def _texts(batch: Any, column: str) -> list[str]:
    names = [str(name) for name in getattr(batch, "column_names", None) or batch]
    if column not in names:
        raise ParamsError(
            f"column {column!r} is not in the batch; {expected_one_of(names, 'it has no columns')}"
        )
    cells = batch[column]
    texts: Iterable[Any] = cells.to_pylist() if hasattr(cells, "to_pylist") else cells.tolist()
    found = list(texts)
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise PromptError(
                f"row {index} of the batch has {text!r} in column {column!r}; expected a text. "
                "Drop such rows before.",
                index=index,
            )
    return found


def _no_rows(model: EdgeModel, call: ColumnCall) -> FloatArray:
    """What an empty batch becomes: engines try a function on one."""
    if call.task == "score":
        return np.zeros(0, dtype=np.float32)
    if call.task == "classify":
        return np.zeros((0, len(model.manifest.head.labels) if model.manifest.head else 1), dtype=np.float32)
    asked = call.pooling_params.dimensions if call.pooling_params else None
    size = asked or model.manifest.dimensions or model.manifest.embedding_size or 0
    return np.zeros((0, size), dtype=np.float32)
