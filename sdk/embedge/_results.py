"""What the verbs return: one request output per prompt, in a sequence that also gives plain arrays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from embedge._sequence import MadeOnDemand
from embedge.errors import ShapeError
from embedge.types import FloatArray

RequestT = TypeVar("RequestT")


def as_array(rows: npt.NDArray[Any], dtype: npt.DTypeLike | None, copy: bool | None) -> npt.NDArray[Any]:
    """What `__array__` returns for rows; the other arguments are those that numpy passes to it."""
    # numpy before 2 knows no copy=None
    return np.asarray(rows, dtype=dtype) if copy is None else np.array(rows, dtype=dtype, copy=copy)


class RequestOutputs(MadeOnDemand[RequestT]):
    """One request output per prompt, in the order of the prompts; made when they are looked at.

    `numpy()` gives the plain arrays.

    Args:
        rows: float32, one per prompt.
        make: makes the output at a position; pickled with the rows.
    """

    _noun = "outputs"

    def __init__(self, rows: FloatArray | Sequence[Any], make: Callable[[int], RequestT]) -> None:
        self._rows = rows
        self._make = make

    def __len__(self) -> int:
        return len(self._rows)

    def _item(self, position: int) -> RequestT:
        return self._make(position)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)}>"

    @abstractmethod
    def numpy(self) -> FloatArray | list[FloatArray]:
        """The rows as float32: one array for one row per prompt, a list of arrays for token tasks."""


class ArrayOutputs(RequestOutputs[RequestT]):
    """Outputs that are one row per prompt; numpy takes them for the array that they are."""

    def numpy(self) -> FloatArray:
        """All rows as one float32 array (num_prompts, dim), of scores (num_pairs,), without copying.

        Raises:
            ShapeError: the rows have different sizes, because the prompts asked for different dimensions.
        """
        if isinstance(self._rows, np.ndarray):
            return self._rows
        sizes = {len(row) for row in self._rows}
        if len(sizes) > 1:
            raise ShapeError(
                f"the rows have different sizes {sorted(sizes)}, so they form no array; "
                "ask for one value of dimensions, or read .outputs.data of each item"
            )
        return np.stack(self._rows) if self._rows else np.zeros((0, 0), dtype=np.float32)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return as_array(self.numpy(), dtype, copy)


class RaggedOutputs(RequestOutputs[RequestT]):
    """Outputs that are one array per prompt."""

    def numpy(self) -> list[FloatArray]:
        """One float32 array (num_rows, dim) per prompt, without copying."""
        return list(self._rows)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> NoReturn:
        raise ShapeError(
            "these outputs are one array per prompt, of different sizes, so they form no array; expected .numpy(), "
            "which lists them, or np.asarray of one output"
        )
