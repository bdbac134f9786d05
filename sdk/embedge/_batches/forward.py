"""Encoded prompts through a graph: feeds, batches, rows back in the order of the prompts."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np

from embedge._batches.attention import AttentionMemory
from embedge._batches.checking import check_finite, checked, wrong_shape
from embedge._batches.dealing import deal
from embedge._batches.feeding import Feeding, Feeds
from embedge._batches.fitting import Fitting
from embedge._batches.jobs import Asked, CallPlanning, Job, in_time
from embedge._batches.joining import Ran, SmallCalls, yield_priority
from embedge._batches.memory import BatchMemory
from embedge._batches.planning import PaddedLength
from embedge._batches.prefixes import Prefixes
from embedge._batches.turns import Turns
from embedge._cancelling import current_halt
from embedge._machine.own_memory import give_back
from embedge._sessions.on_cpu import LARGE_CALL_BATCHES, CpuSessions
from embedge._sessions.on_devices import DeviceSessions
from embedge._sessions.session import Lane
from embedge._text.ahead import ArrivingRows
from embedge._text.padding import Indices, TokenBatch
from embedge._text.tokens import Encoded, EncodedRows
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


_LARGE_BATCHES = 4 * LARGE_CALL_BATCHES
"""Calls of as many take seconds; giving back what they freed takes hundredths of one."""


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
        prefixes: of a graph on the CPU that takes them, where they are to be computed once.

    Attributes:
        prefixes: likewise.
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
        prefixes: Prefixes | None = None,
    ) -> None:
        self._sessions = sessions
        self._feeding = Feeding(tokenizer=tokenizer, inputs=inputs, padded_length=padded_length)
        self._fitting = fitting = Fitting(
            max_batch_tokens,
            attention,
            max_square,
            padded_length,
            memory,
            switch_lengths,
            None if prefixes is None else AttentionMemory(num_heads=prefixes.spec.score_heads),
        )
        self.prefixes = prefixes
        self._small = None
        self._turns = None
        if isinstance(sessions, CpuSessions):
            # twice the workers: one more is ready for each when its batch is done
            self._turns = Turns(2 * sessions.num_workers)
            me = weakref.proxy(self)  # not in a circle: a closed model's memory is freed at once
            self._small = SmallCalls[Asked](
                lambda asked, encoded, worker: me._run(asked, encoded, worker),
                sessions.num_workers,
                lambda asked, rows, longest, shortest: fitting.fits(rows, longest, shortest, asked.before),
            )
        self._planning = CallPlanning(fitting, sessions, prefixes, self._turns)

    def batches(
        self,
        output: str,
        encoded: Sequence[Encoded],
        finish: FinishBatch | None = None,
        lead: Sequence[int] = (),
    ) -> Generator[tuple[Indices, FloatArray, IntArray], None, None]:
        """Run all prompts, longest first. Close the generator to stop early; that ends its threads.

        Args:
            output: of the graph.
            encoded: the prompts.
            finish: called in the thread that computed a batch; None yields the graph's output.
            lead: tokens that prompts may begin with, computed once; the output is then the pooled one.

        Yields:
            Positions of the batch's prompts, the output as float32, and attention_mask (batch, seq_len); batches
            in the order in which they finish.
        """

        def finished(rows: FloatArray, positions: Indices) -> FloatArray:
            return rows if finish is None else finish(rows, positions)

        pad_token_id, side = self._feeding.tokenizer.pad_token_id, self._feeding.tokenizer.padding_side
        came = None if self._small is None else self._small.came

        def compute(lane: Lane, job: Job) -> tuple[Indices, FloatArray, IntArray]:
            if self._small is not None and self._small.came != came and current_halt() is not None:
                yield_priority()  # somebody waits for a small call
            with contextlib.nullcontext() if self._turns is None else self._turns.turn():
                feeds = self._feeding.feeds(job.rows.batch(job.chosen, pad_token_id, side), job.prefix)
                array = self._compute(lane, Asked(output, job.prefix), feeds)
            array = checked(array, output, feeds["attention_mask"].shape)
            # without a turn: an application's own pooling may ask the model again
            return job.positions, finished(array, job.positions), feeds["attention_mask"]

        if isinstance(encoded, ArrivingRows):
            yield from self._deal(self._planning.arriving(encoded), compute, self._sessions.lanes(None))
            return
        if len(encoded) == 1 and (self.prefixes is None or not lead):
            self._fitting.check(len(encoded[0].token_ids))
            array, attention_mask = self._run_small(Asked(output, None), encoded)
            yield _FIRST, finished(array, _FIRST), attention_mask
            return
        rows = encoded if isinstance(encoded, EncodedRows) else EncodedRows.of(encoded)
        jobs, lanes = self._planning.planned(rows, lead)
        if len(jobs) != 1:
            yield from self._deal(jobs, compute, lanes)
            if len(jobs) >= _LARGE_BATCHES:
                give_back()
            return
        prefix = jobs[0].prefix
        array, attention_mask = self._run_small(
            Asked(output, prefix), encoded if prefix is None else jobs[0].rows
        )
        positions = np.arange(len(encoded))
        yield positions, finished(array, positions), attention_mask

    def _run_small(self, asked: Asked, encoded: Sequence[Encoded]) -> Ran:
        """A call of one batch, together with others where it can be."""
        return self._run(asked, encoded) if self._small is None else self._small.run(asked, encoded)

    def _deal(
        self,
        jobs: Sequence[Job] | Generator[Job, None, None],
        compute: Callable[[Lane, Job], ResultT],
        lanes: Sequence[Lane],
    ) -> Generator[ResultT, None, None]:
        """Deal a call's batches to its lanes, or its share of them."""
        with (
            contextlib.nullcontext(len(lanes))
            if self._turns is None
            else self._turns.call(len(lanes)) as count
        ):
            yield from deal(jobs, compute, lanes[:count], self._sessions.survives)

    def _compute(self, lane: Lane, asked: Asked, feeds: Feeds) -> FloatArray:
        """Run a batch, when there is memory for it; a large one so that it can be ended meanwhile."""
        num_rows, seq_len = feeds["input_ids"].shape
        with self._fitting.running(num_rows, seq_len, asked.before):
            return in_time(partial(lane.run, asked.output, feeds), feeds)

    def _run(self, asked: Asked, encoded: Sequence[Encoded], worker: int | None = None) -> Ran:
        """One batch by a worker, or on the first lane that can do it; its output and attention_mask."""
        feeds = self._feeding.feeds(self._feeding.batch(encoded), asked.prefix)
        mask = feeds["attention_mask"]
        sessions = self._sessions
        if worker is not None and isinstance(sessions, CpuSessions):
            lanes: Sequence[Lane] = [sessions.worker(worker)]
        else:
            lanes = sessions.lanes([mask.size])
        for lane in lanes:
            try:
                array = self._compute(lane, asked, feeds)
                return checked(array, asked.output, mask.shape), mask
            except SessionError as error:
                if lane is lanes[-1] or not sessions.survives(lane, error):
                    raise
        raise AssertionError("a call has at least one lane")  # pragma: no cover (the last lane raises)

    def pooled(
        self,
        output: str,
        encoded: Sequence[Encoded],
        finish: FinishRows | None = None,
        *,
        width: int | None = None,
        lead: Sequence[int] = (),
    ) -> Generator[tuple[Indices, FloatArray], None, None]:
        """Run an output that has one row per prompt.

        Args:
            output: of the graph.
            encoded: the prompts.
            finish: called in the thread that computed a batch; None yields the graph's output.
            width: components of a row as the manifest states them; None where it does not.
            lead: see `batches`.

        Raises:
            SessionError: the output has another shape.
            NumericalError: a row holds NaN or infinity.
        """

        def finished(rows: FloatArray, positions: Indices) -> FloatArray:
            if rows.ndim != 2 or width not in (None, rows.shape[1]):
                raise wrong_shape(output, rows, f"({len(positions)}, {width or 'size'})")
            check_finite(rows, positions)
            return rows if finish is None else finish(rows)

        with closing(self.batches(output, encoded, finished, lead)) as batches:
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
                rows = [
                    self._feeding.real(array[i], len(encoded[k].token_ids)) for i, k in enumerate(positions)
                ]
                for i, row in enumerate(rows):
                    check_finite(row[None], positions[i : i + 1])
                yield positions, rows

    def feeds(self, batch: TokenBatch) -> Feeds:
        """The graph's inputs, each int64 (batch, seq_len)."""
        return self._feeding.feeds(batch)
