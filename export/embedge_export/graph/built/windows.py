"""Windows in blocks: the queries of a block see no key outside of one block of keys around them."""

from __future__ import annotations

import msgspec
import numpy as np

from embedge_export.families.structure import Attention
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.positions import MASKED, POSITIONS_SCOPE, PositionNodes

_WIDE = 1024
_SMALL_BLOCK, _LARGE_BLOCK = 64, 128
_SMALL_SPAN = 256


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Of blocks.

    Attributes:
        before, after: how many tokens a token sees before and after itself.
        queries: of a block.
        keys: that they are multiplied with.
        one_block: longest text that is one block of its own length, which takes less time up to it.
    """

    before: int
    after: int
    queries: int
    keys: int
    one_block: int


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Names of what a window's blocks are made with.

    Attributes:
        query_places, key_places: positions of queries and keys, int64 (blocks, queries) and (blocks, keys).
        num_queries, num_keys, batch: int64 (1,).
        bias: what scores get added, float32 (batch * blocks, 1, queries, keys).
    """

    query_places: str
    key_places: str
    num_queries: str
    num_keys: str
    batch: str
    bias: str


def is_wide(block: Attention) -> bool:
    """Whether blocks would hold more than a kernel that computes all earlier tokens and hides those outside."""
    return block.window is not None and sum(block.window) > _WIDE


def sizes_of(block: Attention) -> Sizes:
    """Sizes of a window's blocks: small ones compute less that is hidden, large ones take fewer and better products."""
    assert block.window is not None
    before, after = block.window
    after = 0 if block.causal else after
    queries = _SMALL_BLOCK if before + after < _SMALL_SPAN else _LARGE_BLOCK
    keys = queries + before + after
    one_block = keys * 4 // 3
    while any((one_block - 1) % rows == 0 for rows in kernel_rows(block)):
        one_block -= 1  # a batch of that length would be padded beyond it
    return Sizes(before=before, after=after, queries=queries, keys=keys, one_block=one_block)


def kernel_rows(block: Attention) -> tuple[int, int]:
    """Rows that onnxruntime's kernels compute at a time: as many as a head has components of queries and values.

    Returns:
        Of causal attention, and of that whose queries have one component more, which carries the mask.
    """
    return 2 * block.head_dim, 2 * block.head_dim + 1


class WindowNodes:
    """Emits what windows need to know of positions, each window once."""

    def __init__(self, canvas: Canvas, positions: PositionNodes) -> None:
        self._canvas = canvas
        self._positions = positions
        self._made: dict[Sizes, Window] = {}

    def of(self, block: Attention) -> Window:
        """The window of a block."""
        sizes = sizes_of(block)
        if sizes not in self._made:
            self._made[sizes] = self._make(sizes)
        return self._made[sizes]

    def _make(self, sizes: Sizes) -> Window:
        canvas, length = self._canvas, self._positions.seq_len()
        canvas.scope(POSITIONS_SCOPE)
        short = canvas.op("LessOrEqual", length, canvas.constant([sizes.one_block]))
        num_queries, num_keys, before = (
            canvas.op("Where", short, alone, canvas.constant([size]))
            for alone, size in (
                (length, sizes.queries),
                (length, sizes.keys),
                (canvas.constant([0]), sizes.before),
            )
        )
        one = canvas.constant([1])
        blocks = canvas.op("Div", canvas.op("Add", length, canvas.op("Sub", num_queries, one)), num_queries)
        starts = canvas.op("Unsqueeze", canvas.op("Mul", self._count(blocks), num_queries), one)
        queries = canvas.op("Add", starts, self._count(num_queries))
        keys = canvas.op("Sub", canvas.op("Add", starts, self._count(num_keys)), before)
        last = canvas.op("Sub", length, one)
        key_places = canvas.op("Min", canvas.op("Max", keys, canvas.constant([0])), last)
        bias = self._bias(sizes, queries, keys, key_places)
        shape = canvas.op("Concat", canvas.constant([-1, 1]), num_queries, num_keys, axis=0)
        return Window(
            query_places=canvas.op("Min", queries, last),
            key_places=key_places,
            num_queries=num_queries,
            num_keys=num_keys,
            batch=canvas.op("Shape", "input_ids", start=0, end=1),
            bias=canvas.op("Reshape", bias, shape),
        )

    def _count(self, number: str) -> str:
        """0, 1, … below a number."""
        canvas = self._canvas
        return canvas.op("Range", canvas.constant(0), canvas.op("Squeeze", number), canvas.constant(1))

    def _bias(self, sizes: Sizes, queries: str, keys: str, key_places: str) -> str:
        """MASKED where a query does not see a key, else 0: (batch, blocks, queries, keys)."""
        canvas = self._canvas
        outside = canvas.op("Not", canvas.op("Equal", keys, key_places))
        apart = canvas.op(
            "Sub",
            canvas.op("Unsqueeze", keys, canvas.constant([1])),
            canvas.op("Unsqueeze", queries, canvas.constant([2])),
        )
        unseen = canvas.op(
            "Or",
            canvas.op("Greater", apart, canvas.constant(sizes.after)),
            canvas.op("Less", apart, canvas.constant(-sizes.before)),
        )
        unseen = canvas.op("Or", unseen, canvas.op("Unsqueeze", outside, canvas.constant([1])))
        low, zero = canvas.constant(MASKED, np.float32), canvas.constant(0.0, np.float32)
        band = canvas.op("Where", unseen, low, zero)
        mask = canvas.op("Gather", self._positions.mask(), key_places, axis=1)
        canvas.scope(POSITIONS_SCOPE)
        hidden = canvas.op("Mul", canvas.op("Sub", canvas.constant(1.0, np.float32), mask), low)
        # the smaller of the two, so that nothing falls out of float32's range
        return canvas.op("Min", canvas.op("Unsqueeze", hidden, canvas.constant([2])), band)
