"""Which batches fit: into the caches by their tokens, and into memory by what is known to be taken."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from embedge._batches.attention import AttentionMemory
from embedge._batches.memory import BatchMemory, Share
from embedge._batches.planning import PaddedLength, plan_batches, shorter_side
from embedge._text.padding import Indices


class Fitting:
    """The limits of a graph's batches; arguments as of Forward.

    Where `before` is asked for, it is the tokens of the prefix that texts come after.
    """

    def __init__(
        self,
        max_batch_tokens: int,
        attention: AttentionMemory | None,
        max_square: int | None,
        padded_length: PaddedLength | None,
        memory: BatchMemory | None,
        switch_lengths: Sequence[int] = (),
        after_prefix: AttentionMemory | None = None,
    ) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._attention = attention
        self._max_square = max_square if attention is None else attention.max_square()
        self._padded_length = padded_length
        self._memory = memory
        self._switch_lengths = switch_lengths
        self._after_prefix = after_prefix
        self._share = None if memory is None else Share(memory.limit_bytes)

    def plan(
        self,
        num_tokens: npt.NDArray[np.int32],
        positions: Indices | None = None,
        before: int = 0,
        at_most: int | None = None,
    ) -> list[Indices]:
        """Batches of prompts by their tokens, longest first.

        Args:
            num_tokens: of each.
            positions: of the prompts in their call, for messages; None where they are all of it.
            before: see the class.
            at_most: padded tokens of a batch, where fewer than the limit are wanted.

        Raises:
            PromptError: a prompt does not fit into the memory that the model may take.
        """
        planned = plan_batches(
            num_tokens,
            min(self._max_batch_tokens, at_most or self._max_batch_tokens),
            None if before else self._max_square,
            None if self._memory is None and not before else partial(self._most_rows, before=before),
            self._switch_lengths,
        )
        if planned:
            longest = int(planned[0][0])
            index = longest if positions is None else int(positions[longest])
            self._check_memory(int(num_tokens[longest]), index, before)
        return planned

    def check(self, num_tokens: int, index: int = 0) -> None:
        """Refuse a prompt that is run alone where it does not fit.

        Args:
            num_tokens: of it.
            index: of the prompt, for messages.

        Raises:
            PromptError: it does not fit into the memory that is free, or that the model may take.
        """
        if self._attention is not None:
            self._attention.num_lanes(1, 1, num_tokens, index)
        self._check_memory(num_tokens, index)

    def num_lanes(
        self,
        num_tokens: npt.NDArray[np.int32],
        planned: Sequence[Indices],
        num_lanes: int,
        positions: Indices | None = None,
    ) -> int | None:
        """Batches that may run at once of so many; None: all.

        Args:
            num_tokens: of each prompt.
            planned: the batches.
            num_lanes: how many would run.
            positions: see `plan`.

        Raises:
            PromptError: not even one fits into the memory that is free.
        """
        if self._attention is None or not planned:
            return None
        largest = max(planned, key=lambda positions: len(positions) * int(num_tokens[positions[0]]) ** 2)
        longest = int(largest[0])
        index = longest if positions is None else int(positions[longest])
        return self._attention.num_lanes(num_lanes, len(largest), int(num_tokens[longest]), index)

    def fits(self, num_rows: int, seq_len: int, shortest: int, before: int = 0) -> bool:
        """Whether so many texts are one batch.

        Args:
            num_rows: how many.
            seq_len: tokens of the longest.
            shortest: tokens of the shortest.
            before: see the class.
        """
        square = None if before else self._max_square
        return (
            shortest > shorter_side(seq_len, self._switch_lengths)
            and num_rows * seq_len <= self._max_batch_tokens
            and (square is None or num_rows * seq_len**2 <= square)
            and ((self._memory is None and not before) or num_rows <= self._most_rows(seq_len, before))
        )

    def running(
        self, num_rows: int, seq_len: int, before: int = 0
    ) -> contextlib.AbstractContextManager[None]:
        """Around a run: waits until there is memory for it, where there is a limit.

        Raises:
            Stopped, CallCancelledError, DeadlineError: the call is to end.
        """
        if self._memory is None or self._share is None:
            return contextlib.nullcontext()
        return self._share.taking(self._memory.needed_bytes(num_rows, seq_len, before))

    def _padded(self, seq_len: int) -> int:
        return seq_len if self._padded_length is None else self._padded_length.of(seq_len)

    def _most_rows(self, seq_len: int, before: int = 0) -> int:
        seq_len = self._padded(seq_len)
        limits = [] if self._memory is None else [self._memory.most_rows(seq_len, before)]
        if before and self._after_prefix is not None:
            limits.append(max(1, self._after_prefix.max_square() // (seq_len * (seq_len + before))))
        return min(limits)

    def _check_memory(self, seq_len: int, index: int, before: int = 0) -> None:
        if self._memory is not None:
            self._memory.check(self._padded(seq_len), index, before)
