"""Encoded prompts through a graph: feeds, batches, rows back in the order of the prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from embedge._batching import pad_rows, plan_batches
from embedge._session import Session
from embedge._tokenize import Encoded
from embedge._types import FloatArray, IntArray
from embedge.errors import NumericalError
from embedge.manifest import TokenizerSpec

Positions = npt.NDArray[np.intp]
OnDone = Callable[[int], None]


class Forward:
    """A session with what is needed to feed it.

    Args:
        session: the loaded graph.
        tokenizer: padding facts.
        inputs: names of the graph's inputs.
        max_batch_tokens: limit on padded tokens per run.
    """

    def __init__(
        self, session: Session, tokenizer: TokenizerSpec, inputs: Sequence[str], max_batch_tokens: int
    ) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = inputs
        self._max_batch_tokens = max_batch_tokens

    def batches(
        self, output: str, encoded: Sequence[Encoded]
    ) -> Iterator[tuple[Positions, FloatArray, IntArray]]:
        """Run all prompts, longest first.

        Yields:
            Positions of the batch's prompts, the output as float32, and attention_mask (batch, seq_len).
        """
        for positions in plan_batches([len(e.token_ids) for e in encoded], self._max_batch_tokens):
            batch = [encoded[i] for i in positions]
            feeds = self.feeds(batch)
            array = self._session.run(output, feeds).astype(np.float32, copy=False)
            yield positions, array, feeds["attention_mask"]

    def pooled(self, output: str, encoded: Sequence[Encoded]) -> Iterator[tuple[Positions, FloatArray]]:
        """Run an output that has one row per prompt.

        Raises:
            NumericalError: a row holds NaN or infinity.
        """
        for positions, rows, _ in self.batches(output, encoded):
            check_finite(rows, positions)
            yield positions, rows

    def tokens(self, output: str, encoded: Sequence[Encoded]) -> Iterator[tuple[Positions, list[FloatArray]]]:
        """Run an output that has one row per token; padding is taken off.

        Raises:
            NumericalError: a row of a real token holds NaN or infinity.
        """
        for positions, array, _ in self.batches(output, encoded):
            rows = [self._real(array[i], len(encoded[k].token_ids)) for i, k in enumerate(positions)]
            for i, row in enumerate(rows):
                check_finite(row[None], positions[i : i + 1])
            yield positions, rows

    def _real(self, rows: FloatArray, num_tokens: int) -> FloatArray:
        return (
            rows[:num_tokens] if self._tokenizer.padding_side == "right" else rows[len(rows) - num_tokens :]
        )

    def feeds(self, batch: Sequence[Encoded]) -> dict[str, IntArray]:
        """Padded inputs of one run, each int64 (batch, seq_len)."""
        side = self._tokenizer.padding_side
        feeds = {
            "input_ids": pad_rows([e.token_ids for e in batch], self._tokenizer.pad_token_id, side),
            "attention_mask": pad_rows([_attention(e) for e in batch], 0, side),
        }
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = (
                np.zeros_like(feeds["input_ids"])
                if all(e.type_ids is None for e in batch)
                else pad_rows([e.type_ids or [0] * len(e.token_ids) for e in batch], 0, side)
            )
        if "position_ids" in self._inputs:
            feeds["position_ids"] = np.maximum(np.cumsum(feeds["attention_mask"], axis=1) - 1, 0)
        return feeds


def _attention(encoded: Encoded) -> list[int]:
    count = len(encoded.token_ids)
    attended = count if encoded.num_attended is None else encoded.num_attended
    return [1] * attended + [0] * (count - attended)


def check_finite(rows: FloatArray, positions: Positions) -> None:
    """Refuse NaN and infinity.

    Args:
        rows: (batch, …).
        positions: the prompt of each row.

    Raises:
        NumericalError: names the first prompt concerned.
    """
    if np.isfinite(rows).all():
        return
    bad = ~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    index = int(positions[bad].min())
    raise NumericalError(
        f"the graph returned NaN or infinity for prompt {index}. A half-precision variant may have overflowed: "
        "use variant='fp32', or run embedge verify on the bundle.",
        index=index,
    )
