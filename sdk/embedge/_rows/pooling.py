"""Token rows to one row: the only numpy copy of each pooling formula.

Every function takes float hidden_states of shape (batch, seq_len, hidden_size) and attention_mask of shape
(batch, seq_len), 1 for real tokens and 0 for padding on either side, and returns float32
(batch, hidden_size), not normalised. Accumulation is float32 whatever the graph's precision.

Source: sentence-transformers `Pooling`, vLLM `pooler.py`; the graph's own pooling is checked against these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from embedge.errors import ShapeError
from embedge.types import FloatArray, IntArray, PoolingMode

_LEAST = np.float32(1e-9)
Pooler = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


def pool(
    hidden_states: npt.ArrayLike,
    attention_mask: npt.ArrayLike,
    modes: Sequence[PoolingMode],
    kept: npt.ArrayLike | None = None,
) -> FloatArray:
    """Pool each sequence by every mode in turn and concatenate the results.

    Args:
        hidden_states: (batch, seq_len, hidden_size).
        attention_mask: (batch, seq_len).
        modes: one-row modes only: "CLS", "LAST", "MEAN", "MAX", "MEAN_SQRT_LEN" or "WEIGHTEDMEAN".
        kept: (batch, seq_len), 1 for the real tokens that are pooled; None pools all of them. The weights of
            WEIGHTEDMEAN are those that the tokens have among all. Where none is pooled, means and LAST are 0, CLS is
            the first token and MAX minus infinity, as sentence-transformers has it.

    Returns:
        float32 (batch, hidden_size * len(modes)).

    Raises:
        ShapeError: shapes do not fit, a row has no real token, or a mode does not give one row.
    """
    hidden = np.asarray(hidden_states, dtype=np.float32)
    mask = np.asarray(attention_mask, dtype=np.float32)
    if hidden.ndim != 3 or mask.shape != hidden.shape[:2]:
        raise ShapeError(
            f"hidden_states {hidden.shape} and attention_mask {mask.shape} do not fit; "
            "expected (batch, seq_len, hidden_size) and (batch, seq_len)"
        )
    empty = np.flatnonzero(~mask.any(axis=1))
    if empty.size:
        raise ShapeError(f"row {empty[0]} has no real token; every sequence needs at least one")
    unknown = [mode for mode in modes if mode not in POOLERS]
    if unknown or not modes:
        raise ShapeError(
            f"pooling {unknown or 'of no mode'} gives no single row; expected some of {sorted(POOLERS)}"
        )
    chosen = mask if kept is None else np.asarray(kept, dtype=np.float32) * mask
    pooled = [POOLERS[mode](hidden, chosen, mask) for mode in modes]
    return pooled[0] if len(pooled) == 1 else np.concatenate(pooled, axis=1)


def cls_pool(hidden_states: FloatArray, kept: FloatArray, _: FloatArray) -> FloatArray:
    """Take the first real token."""
    return _take(hidden_states, kept.argmax(axis=1))


def last_pool(hidden_states: FloatArray, kept: FloatArray, _: FloatArray) -> FloatArray:
    """Take the last real token."""
    seq_len = kept.shape[1]
    last = _take(hidden_states, seq_len - 1 - kept[:, ::-1].argmax(axis=1))
    return np.where(kept.max(axis=1, keepdims=True) > 0, last, np.float32(0))


def mean_pool(hidden_states: FloatArray, kept: FloatArray, _: FloatArray) -> FloatArray:
    """Average the real tokens."""
    return _weighted_sum(hidden_states, kept) / np.maximum(kept.sum(axis=1, keepdims=True), _LEAST)


def max_pool(hidden_states: FloatArray, kept: FloatArray, _: FloatArray) -> FloatArray:
    """Take the largest value of each component over the real tokens."""
    return np.where(kept[:, :, None] > 0, hidden_states, np.float32(-np.inf)).max(axis=1)


def mean_sqrt_len_pool(hidden_states: FloatArray, kept: FloatArray, _: FloatArray) -> FloatArray:
    """Sum the real tokens and divide by the square root of their number."""
    return _weighted_sum(hidden_states, kept) / np.sqrt(np.maximum(kept.sum(axis=1, keepdims=True), _LEAST))


def weighted_mean_pool(hidden_states: FloatArray, kept: FloatArray, mask: FloatArray) -> FloatArray:
    """Average the real tokens with weights 1, 2, 3 … in their order.

    Positions count real tokens, so that left padding does not change the weights; for right-padded rows this
    is what sentence-transformers computes.
    """
    weights = np.cumsum(mask, axis=1, dtype=np.float32) * kept
    return _weighted_sum(hidden_states, weights) / np.maximum(weights.sum(axis=1, keepdims=True), _LEAST)


POOLERS: dict[str, Pooler] = {
    "CLS": cls_pool,
    "LAST": last_pool,
    "MEAN": mean_pool,
    "MAX": max_pool,
    "MEAN_SQRT_LEN": mean_sqrt_len_pool,
    "WEIGHTEDMEAN": weighted_mean_pool,
}


def step_rows(
    rows: FloatArray,
    token_ids: IntArray,
    *,
    step_tag_id: int | None,
    returned_token_ids: Sequence[int] | None,
) -> tuple[FloatArray, IntArray]:
    """STEP pooling of one sequence: keep some columns, then the rows of the step tag.

    Args:
        rows: float32 (num_tokens, size), real tokens only.
        token_ids: int64 (num_tokens,).
        step_tag_id: keep rows whose token id is this one; None keeps all.
        returned_token_ids: keep these columns in this order; None keeps all, and so does an empty list, as in vLLM.

    Returns:
        The kept rows, and the positions they had among the tokens.

    Raises:
        ShapeError: a column lies outside of rows.
    """
    if returned_token_ids:
        beyond = [column for column in returned_token_ids if column >= rows.shape[1]]
        if beyond:
            raise ShapeError(f"returned_token_ids holds {beyond[0]}; expected ids below {rows.shape[1]}")
        rows = rows[:, list(returned_token_ids)]
    positions = np.arange(len(rows)) if step_tag_id is None else np.flatnonzero(token_ids == step_tag_id)
    return rows[positions], positions


def _take(hidden_states: FloatArray, positions: npt.NDArray[np.intp]) -> FloatArray:
    return hidden_states[np.arange(len(hidden_states)), positions]


def _weighted_sum(hidden_states: FloatArray, weights: FloatArray) -> FloatArray:
    # (batch, 1, seq_len) @ (batch, seq_len, hidden_size)
    summed: FloatArray = np.matmul(weights[:, None, :], hidden_states)[:, 0, :]
    return summed
