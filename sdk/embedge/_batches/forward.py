"""Encoded prompts through a graph: feeds, batches, rows back in the order of the prompts."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import TypeAlias, TypeVar

import msgspec
import numpy as np

from embedge._batches.attention import AttentionMemory
from embedge._batches.checking import check_finite, checked, wrong_shape
from embedge._batches.dealing import deal
from embedge._batches.fitting import Fitting
from embedge._batches.joining import Ran, SmallCalls, yield_priority
from embedge._batches.memory import BatchMemory
from embedge._batches.planning import PaddedLength
from embedge._batches.turns import Turns
from embedge._cancelling import check_call, current_halt
from embedge._machine.own_memory import give_back
from embedge._sessions.on_cpu import LARGE_CALL_BATCHES, CpuSessions
from embedge._sessions.on_devices import DeviceSessions
from embedge._sessions.session import Lane
from embedge._text.ahead import ArrivingRows
from embedge._text.padding import Indices, TokenBatch, widened
from embedge._text.tokens import Encoded, EncodedRows, batch_of_one
from embedge._workers import interruptibly
from embedge.errors import SessionError
from embedge.manifest import TokenizerSpec
from embedge.types import FloatArray, IntArray

FinishBatch: TypeAlias = Callable[[FloatArray, Indices], FloatArray]
"""Makes of a batch's output, and its prompts' positions in the call, what is yielded instead."""
ResultT = TypeVar("ResultT")
FinishRows: TypeAlias = Callable[[FloatArray], FloatArray]
"""Makes of a batch's rows, one per prompt, what is yielded instead."""


_FIRST: Indices = np.zeros(1, dtype=np.intp)
"""Position of a call's only prompt."""
_FIRST.flags.writeable = False


_SOON_DONE_TOKENS = 256
"""Fewer padded tokens are computed before anybody could wish for their end; another thread would cost them more."""


_LARGE_BATCHES = 4 * LARGE_CALL_BATCHES
"""Calls of as many take seconds; giving back what they freed takes hundredths of one."""


class _Job(msgspec.Struct, frozen=True):
    """A batch to run.

    Attributes:
        rows: prompts.
        chosen: the batch's among them.
        positions: of the batch's prompts in the call.
    """

    rows: EncodedRows
    chosen: Indices
    positions: Indices


class Forward:
    """A graph with what is needed to feed it.

    Args:
        sessions: the loaded graph.
        tokenizer: padding facts.
        inputs: names of the graph's inputs.
        max_batch_tokens: limit on padded tokens per run.
        attention: what bounds the memory of a batch on the CPU; None where it is not known, or for accelerators.
        max_square: for accelerators, limit on a batch's rows times the square of its longest, if any.
        padded_length: to which batches are padded; None: to their longest text.
        memory: what batches take and may take, where there is a limit.
        switch_lengths: see manifest.Variant.
    """

    def __init__(
        self,
        sessions: CpuSessions | DeviceSessions,
        tokenizer: TokenizerSpec,
        inputs: Sequence[str],
        max_batch_tokens: int,
        attention: AttentionMemory | None = None,
        max_square: int | None = None,
        padded_length: PaddedLength | None = None,
        memory: BatchMemory | None = None,
        switch_lengths: Sequence[int] = (),
    ) -> None:
        self._sessions = sessions
        self._padded_length = padded_length
        self._tokenizer = tokenizer
        self._inputs = inputs
        self._fitting = fitting = Fitting(
            max_batch_tokens, attention, max_square, padded_length, memory, switch_lengths
        )
        self._small = None
        self._turns = None
        if isinstance(sessions, CpuSessions):
            # twice the workers: one more is ready for each when its batch is done
            self._turns = Turns(2 * sessions.num_workers)
            me = weakref.proxy(self)  # not in a circle: a closed model's memory is freed at once
            self._small = SmallCalls(
                lambda output, encoded, worker: me._run(output, encoded, worker),
                sessions.num_workers,
                fitting.fits,
            )

    def batches(
        self, output: str, encoded: Sequence[Encoded], finish: FinishBatch | None = None
    ) -> Generator[tuple[Indices, FloatArray, IntArray], None, None]:
        """Run all prompts, longest first. Close the generator to stop early; that ends its threads.

        Args:
            output: of the graph.
            encoded: the prompts.
            finish: called in the thread that computed a batch; None yields the graph's output.

        Yields:
            Positions of the batch's prompts, the output as float32, and attention_mask (batch, seq_len); batches
            in the order in which they finish.
        """

        def finished(rows: FloatArray, positions: Indices) -> FloatArray:
            return rows if finish is None else finish(rows, positions)

        pad_token_id, side = self._tokenizer.pad_token_id, self._tokenizer.padding_side
        came = None if self._small is None else self._small.came

        def compute(lane: Lane, job: _Job) -> tuple[Indices, FloatArray, IntArray]:
            if self._small is not None and self._small.came != came and current_halt() is not None:
                yield_priority()  # somebody waits for a small call
            with contextlib.nullcontext() if self._turns is None else self._turns.turn():
                feeds = self.feeds(job.rows.batch(job.chosen, pad_token_id, side))
                array = self._compute(lane, output, feeds)
            array = checked(array, output, feeds["attention_mask"].shape)
            # without a turn: an application's own pooling may ask the model again
            return job.positions, finished(array, job.positions), feeds["attention_mask"]

        if isinstance(encoded, ArrivingRows):
            yield from self._deal(self._arriving(encoded), compute, LARGE_CALL_BATCHES, None)
            return
        if len(encoded) == 1:
            self._fitting.check(len(encoded[0].token_ids))
            array, attention_mask = self._run_small(output, encoded)
            yield _FIRST, finished(array, _FIRST), attention_mask
            return
        rows = encoded if isinstance(encoded, EncodedRows) else EncodedRows.of(encoded)
        planned = self._fitting.plan(rows.num_tokens)
        num_lanes = self._fitting.num_lanes(rows.num_tokens, planned, len(self._sessions.lanes(len(planned))))
        if len(planned) == 1:
            array, attention_mask = self._run_small(output, encoded)
            positions = np.arange(len(encoded))
            yield positions, finished(array, positions), attention_mask
            return
        jobs = [_Job(rows, positions, positions) for positions in planned]
        yield from self._deal(jobs, compute, len(planned), num_lanes)

    def _run_small(self, output: str, encoded: Sequence[Encoded]) -> Ran:
        """A call of one batch, together with others where it can be."""
        return self._run(output, encoded) if self._small is None else self._small.run(output, encoded)

    def _deal(
        self,
        jobs: Sequence[_Job] | Generator[_Job, None, None],
        compute: Callable[[Lane, _Job], ResultT],
        num_batches: int,
        num_lanes: int | None,
    ) -> Generator[ResultT, None, None]:
        """Deal a call's batches to its lanes, at most num_lanes."""
        sessions = self._sessions
        lanes = sessions.lanes(num_batches)[:num_lanes]
        with (
            contextlib.nullcontext(len(lanes))
            if self._turns is None
            else self._turns.call(len(lanes)) as count
        ):
            yield from deal(jobs, compute, lanes[:count], sessions.survives)
        if num_batches >= _LARGE_BATCHES:
            give_back()

    def _compute(self, lane: Lane, output: str, feeds: dict[str, IntArray]) -> FloatArray:
        """Run a batch, when there is memory for it; a large one so that it can be ended meanwhile."""
        with self._fitting.running(*feeds["input_ids"].shape):
            return _in_time(partial(lane.run, output, feeds), feeds)

    def _run(self, output: str, encoded: Sequence[Encoded], worker: int | None = None) -> Ran:
        """One batch by a worker, or on the first lane that can do it; its output and attention_mask."""
        if len(encoded) == 1:
            batch = batch_of_one(encoded[0])
        else:
            rows = encoded if isinstance(encoded, EncodedRows) else EncodedRows.of(encoded)
            tokenizer = self._tokenizer
            batch = rows.batch(np.arange(len(rows)), tokenizer.pad_token_id, tokenizer.padding_side)
        feeds = self.feeds(batch)
        sessions = self._sessions
        if worker is not None and isinstance(sessions, CpuSessions):
            lanes: Sequence[Lane] = [sessions.worker(worker)]
        else:
            lanes = sessions.lanes(1)
        for lane in lanes:
            try:
                array = self._compute(lane, output, feeds)
                return checked(array, output, feeds["attention_mask"].shape), feeds["attention_mask"]
            except SessionError as error:
                if lane is lanes[-1] or not sessions.survives(lane, error):
                    raise
        raise AssertionError("a call has at least one lane")  # pragma: no cover (the last lane raises)

    def _arriving(self, encoded: ArrivingRows) -> Generator[_Job, None, None]:
        with closing(encoded.arrivals()) as arrivals:
            for positions, rows in arrivals:
                for chosen in self._fitting.plan(rows.num_tokens):
                    yield _Job(rows, chosen, positions[chosen])

    def pooled(
        self,
        output: str,
        encoded: Sequence[Encoded],
        finish: FinishRows | None = None,
        *,
        width: int | None = None,
    ) -> Generator[tuple[Indices, FloatArray], None, None]:
        """Run an output that has one row per prompt.

        Args:
            output: of the graph.
            encoded: the prompts.
            finish: called in the thread that computed a batch; None yields the graph's output.
            width: components of a row as the manifest states them; None where it does not.

        Raises:
            SessionError: the output has another shape.
            NumericalError: a row holds NaN or infinity.
        """

        def finished(rows: FloatArray, positions: Indices) -> FloatArray:
            if rows.ndim != 2 or width not in (None, rows.shape[1]):
                raise wrong_shape(output, rows, f"({len(positions)}, {width or 'size'})")
            check_finite(rows, positions)
            return rows if finish is None else finish(rows)

        with closing(self.batches(output, encoded, finished)) as batches:
            for positions, rows, _ in batches:
                yield positions, rows

    def tokens(
        self, output: str, encoded: Sequence[Encoded]
    ) -> Generator[tuple[Indices, list[FloatArray]], None, None]:
        """Run an output that has one row per token; padding is taken off.

        Raises:
            NumericalError: a row of a real token holds NaN or infinity.
        """
        with closing(self.batches(output, encoded)) as batches:
            for positions, array, mask in batches:
                if array.ndim != 3 or array.shape[1] != mask.shape[1]:
                    raise wrong_shape(output, array, f"({len(positions)}, {mask.shape[1]}, size)")
                rows = [self._real(array[i], len(encoded[k].token_ids)) for i, k in enumerate(positions)]
                for i, row in enumerate(rows):
                    check_finite(row[None], positions[i : i + 1])
                yield positions, rows

    def _real(self, rows: FloatArray, num_tokens: int) -> FloatArray:
        return (
            rows[:num_tokens] if self._tokenizer.padding_side == "right" else rows[len(rows) - num_tokens :]
        )

    def feeds(self, batch: TokenBatch) -> dict[str, IntArray]:
        """The graph's inputs, each int64 (batch, seq_len)."""
        if self._padded_length is not None:
            seq_len = batch.input_ids.shape[1]
            more = self._padded_length.of(seq_len) - seq_len
            batch = widened(batch, more, self._tokenizer.pad_token_id, self._tokenizer.padding_side)
        feeds = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = (
                np.zeros(batch.input_ids.shape, dtype=np.int64) if batch.type_ids is None else batch.type_ids
            )
        if "position_ids" in self._inputs:
            feeds["position_ids"] = np.maximum(np.cumsum(batch.attention_mask, axis=1) - 1, 0)
        return feeds


def _in_time(run: Callable[[], FloatArray], feeds: dict[str, IntArray]) -> FloatArray:
    """Run a batch; a large one so that it can be ended meanwhile."""
    if feeds["input_ids"].size < _SOON_DONE_TOKENS:
        check_call()
        return run()
    return interruptibly(run)
