"""Attention over the tokens of one text, some queries at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from embedge.types import FloatArray, IntArray
from embedge_export.families.structure import Attention, Linear, Norm, RelativeBias, Rotary
from embedge_export.verify.forward.arithmetic import Kept, linear, normalised, softmax

_SCORES = 4_000_000
"""Most scores of queries and keys that are held at once: 16 MB."""


class Text(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What every layer needs to know of a text.

    Attributes:
        num_tokens: how many it has.
        attended: whether each token is seen; None where all are.
        bias: of the encoder's relative positions, float32 (num_heads, 2 * num_tokens - 1), by key minus query from
            1 - num_tokens on; None where it has none.
    """

    num_tokens: int
    attended: npt.NDArray[np.bool_] | None = None
    bias: FloatArray | None = None


def attend(attention: Attention, rows: FloatArray, text: Text, kept: Kept) -> FloatArray:
    """What attention gives for the rows of a text, (num_tokens, hidden_size)."""
    groups = attention.num_heads // attention.num_kv_heads
    queries = _normed(
        linear(rows, attention.query, kept), attention.num_heads, attention.query_norm, attention, kept
    )
    keys = _normed(
        linear(rows, attention.key, kept), attention.num_kv_heads, attention.key_norm, attention, kept
    )
    values = _heads(linear(rows, attention.value, kept), attention.num_kv_heads)
    if attention.rotary is not None:
        queries, keys = rotated(queries, attention.rotary), rotated(keys, attention.rotary)
    if attention.growth is not None:
        turns = np.arange(text.num_tokens, dtype=np.int64) // attention.growth.length
        growth = 1 + attention.growth.rate * np.log1p(turns.astype(np.float32))
        queries = queries * growth.astype(np.float32)[:, None]
    by_distance = _by_distance(attention, queries, keys, kept)
    queries = queries * np.float32(attention.scale)
    # (heads of keys, queries for each, num_tokens, head_dim)
    queries = queries.reshape(attention.num_kv_heads, groups, text.num_tokens, attention.head_dim)
    seen = np.empty((text.num_tokens, attention.num_heads, attention.head_dim), np.float32)
    step = max(1, _SCORES // (attention.num_heads * text.num_tokens))
    for start in range(0, text.num_tokens, step):
        stop = min(start + step, text.num_tokens)
        first, last = _span(attention, start, stop, text.num_tokens)
        scores = queries[:, :, start:stop] @ keys[:, None, first:last].swapaxes(-1, -2)
        whole = scores.reshape(attention.num_heads, stop - start, last - first)
        if by_distance is not None:
            whole += by_distance(slice(start, stop), slice(first, last))
        if attention.softcap is not None:
            cap = np.float32(attention.softcap)
            whole[...] = np.tanh(whole / cap) * cap
        _shift(whole, attention, text, start, first)
        made = softmax(scores) @ values[:, None, first:last]
        seen[start:stop] = made.reshape(attention.num_heads, stop - start, -1).swapaxes(0, 1)
    return linear(seen.reshape(text.num_tokens, -1), attention.output, kept)


def _by_distance(
    attention: Attention, queries: FloatArray, keys: FloatArray, kept: Kept
) -> Callable[[slice, slice], FloatArray] | None:
    """What gives the scores of contents and distances, (num_heads, queries, keys), of some queries and keys."""
    relative = attention.disentangled
    if relative is None:
        return None
    rows, reach = np.array(relative.row_at), len(relative.row_at) // 2

    def near(part: Linear) -> FloatArray:
        """Rows of the table as one side of the products sees them, (num_heads, head_dim, rows)."""
        table = normalised(kept.array(relative.table), relative.norm, kept)
        return np.ascontiguousarray(_heads(linear(table, part, kept), attention.num_heads).swapaxes(1, 2))

    def products(heads: FloatArray, part: Linear | None) -> FloatArray | None:
        """Of every token with every row of the table, (num_heads, num_tokens, rows)."""
        if part is None:
            return None
        made: FloatArray = heads @ kept.once((relative.table, part.weight), lambda: near(part))
        return made * np.float32(attention.scale)

    of_queries, of_keys = products(queries, relative.key), products(keys, relative.query)

    def scores(asking: slice, asked: slice) -> FloatArray:
        i = np.arange(asking.start, asking.stop)[:, None]
        j = np.arange(asked.start, asked.stop)
        row = rows[np.clip(i - j, -reach, reach) + reach]
        parts = [made[:, at, row] for made, at in ((of_queries, i), (of_keys, j)) if made is not None]
        total: FloatArray = sum(parts[1:], start=parts[0])
        return total

    return scores


def rotated(heads: FloatArray, rotary: Rotary) -> FloatArray:
    """Each head's components (num_heads, num_tokens, head_dim), those of a pair turned by the token's angle."""
    half, turned = heads.shape[-1] // 2, len(rotary.frequencies)
    positions = np.arange(heads.shape[1], dtype=np.float32)
    angles = positions[:, None] * np.array(rotary.frequencies, np.float32)
    cosine, sine = (turn(angles) * np.float32(rotary.scale) for turn in (np.cos, np.sin))
    first, second = heads[..., :turned], heads[..., half : half + turned]
    made = heads.copy()
    made[..., :turned] = first * cosine - second * sine
    made[..., half : half + turned] = second * cosine + first * sine
    return made


def relative_bias(relative: RelativeBias, num_tokens: int, kept: Kept) -> FloatArray:
    """What relative positions add to the scores; see Text.bias.

    Source:
        transformers, T5Attention._relative_position_bucket with bidirectional=True.
    """
    table = kept.array(relative.table)  # (buckets, heads)
    each_side = table.shape[0] // 2
    exact = each_side // 2
    distances = np.arange(1 - num_tokens, num_tokens)
    return np.ascontiguousarray(table[_buckets(distances, each_side, exact, relative.max_distance)].T)


def _buckets(distances: IntArray, each_side: int, exact: int, max_distance: int) -> IntArray:
    """Near distances have a bucket each; farther ones share them, the wider the farther."""
    length = np.abs(distances)
    # in float32, and in the order of torch's: the edge of a bucket must fall on the same side
    logarithms = np.log(np.maximum(length, 1).astype(np.float32) / np.float32(exact))
    shares = logarithms / np.float32(math.log(max_distance / exact)) * np.float32(each_side - exact)
    far = np.minimum(exact + shares.astype(np.int64), each_side - 1)
    buckets: IntArray = np.where(length < exact, length, far) + each_side * (distances > 0)
    return buckets


def _heads(rows: FloatArray, num_heads: int) -> FloatArray:
    """(num_tokens, num_heads * head_dim) as (num_heads, num_tokens, head_dim)."""
    return rows.reshape(len(rows), num_heads, -1).swapaxes(0, 1)


def _normed(
    rows: FloatArray, num_heads: int, norm: Norm | None, attention: Attention, kept: Kept
) -> FloatArray:
    if attention.norms_of == "all heads":
        return _heads(normalised(rows, norm, kept), num_heads)
    return normalised(_heads(rows, num_heads), norm, kept)


def _span(attention: Attention, start: int, stop: int, num_tokens: int) -> tuple[int, int]:
    """The first key that one of some queries sees, and the first after the last."""
    before, after = attention.window or (num_tokens, num_tokens)
    if attention.causal:
        after = 0
    return max(0, start - before), min(num_tokens, stop + after)


def _shift(scores: FloatArray, attention: Attention, text: Text, start: int, first: int) -> None:
    """Add the bias of positions to scores (num_heads, queries, keys), and hide what is not seen."""
    if not (attention.relative or attention.causal or attention.window) and text.attended is None:
        return
    _, num_queries, num_keys = scores.shape
    distances = np.arange(first, first + num_keys) - np.arange(start, start + num_queries)[:, None]
    if attention.relative:
        assert text.bias is not None
        scores += text.bias[:, distances + text.num_tokens - 1]
    hidden = np.zeros(distances.shape, np.bool_)
    if attention.causal:
        hidden |= distances > 0
    if attention.window is not None:
        before, after = attention.window
        hidden |= (distances < -before) | (distances > after)
    if text.attended is not None:
        hidden |= ~text.attended[first : first + num_keys]
    if hidden.any():
        scores[:, hidden] = -np.inf
