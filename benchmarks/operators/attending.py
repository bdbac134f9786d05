"""Attention that sees a part of a text, or turns by positions: the forms that a graph can have it in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.operators.single import MICROSOFT, Operator, graph, node, normal

_LOW = np.float32(-1e9)


def _rotations(seq_len: int, head_dim: int) -> dict[str, np.ndarray]:
    rates = 10000.0 ** (-np.arange(head_dim // 2) / (head_dim // 2))
    angles = np.outer(np.arange(seq_len), rates)
    return {
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
        "first": np.array([0]),
    }


def _turned(heads: int, kv_heads: int) -> list:
    return [
        node("RotaryEmbedding", f"{name} first cos sin", f"{name}r", MICROSOFT, num_heads=count)
        for name, count in (("q", heads), ("k", kv_heads))
    ]


def _single(queries: str, keys: str, values: str, head_dim: int) -> list:
    """Scores, softmax and sum, of the shapes that `_shapes` gives."""
    return [
        node("Reshape", f"{queries} qto", "qh"),
        *(node("Reshape", f"{name} kto", f"{to}h") for name, to in ((keys, "k"), (values, "v"))),
        *(node("Transpose", f"{name}h", f"{name}t", perm=(0, 2, 1, 3)) for name in "qkv"),
        node("Reshape", "qt together", "qg"),
        node("FusedMatMul", "qg kt", "grouped", MICROSOFT, transB=1, alpha=head_dim**-0.5),
        node("Reshape", "grouped apart", "scores"),
        node("Add", "scores bias", "masked"),
        node("Softmax", "masked", "shares", axis=-1),
        node("Reshape", "shares rejoined", "sharesg"),
        node("MatMul", "sharesg vt", "mixedg"),
        node("Reshape", "mixedg split", "mixed"),
        node("Transpose", "mixed", "rows", perm=(0, 2, 1, 3)),
        node("Reshape", "rows back", "y"),
    ]


def _shapes(
    blocks: int, queries: int, keys: int, heads: int, kv_heads: int, dim: int
) -> dict[str, np.ndarray]:
    """Of `_single`, for so many texts or blocks."""
    return {
        "qto": np.array([blocks, queries, heads, dim]),
        "kto": np.array([blocks, keys, kv_heads, dim]),
        "together": np.array([blocks, kv_heads, -1, dim]),
        "apart": np.array([blocks, heads, queries, keys]),
        "rejoined": np.array([blocks, kv_heads, -1, keys]),
        "split": np.array([blocks, heads, queries, dim]),
    }


def seen(
    batch: int,
    seq_len: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    before: int | None,
    after: int | None,
) -> Iterator[Operator]:
    """Rotated attention in which a token sees so many tokens before and after itself; None for all."""
    width = heads * head_dim
    feeds = {
        name: normal(batch, seq_len, count * head_dim)
        for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
    }
    weights = _rotations(seq_len, head_dim) | {"back": np.array([batch, -1, width])}
    apart = np.subtract.outer(np.arange(seq_len), np.arange(seq_len))  # the query's position minus the key's
    hidden = (apart > (seq_len if before is None else before)) | (
        -apart > (seq_len if after is None else after)
    )
    turned = _turned(heads, kv_heads)
    whole = _shapes(batch, seq_len, seq_len, heads, kv_heads, head_dim)
    forms = {
        "single operators": (
            [*turned, *_single("qr", "kr", "v", head_dim)],
            weights | whole | {"bias": np.where(hidden, _LOW, 0).astype(np.float32)},
        )
    }
    if before is None and after is None and heads == kv_heads:
        nodes = [*turned, node("MultiHeadAttention", "qr kr v", "y", MICROSOFT, num_heads=heads)]
        forms["MultiHeadAttention"] = (nodes, weights)
    if after == 0:
        window = -1 if before is None else before + 1
        attended = node("GroupQueryAttention", "qr kr v", "y pk pv", MICROSOFT, num_heads=heads,
                        kv_num_heads=kv_heads, local_window_size=window)  # fmt: skip
        attended.input.extend(["", "", "last", "total"])
        lengths = {"last": np.full(batch, seq_len - 1, np.int32), "total": np.asarray(np.int32(seq_len))}
        forms["GroupQueryAttention"] = ([*turned, attended], weights | lengths)
    if before is not None and after is not None:
        for rows in (32, 64, 128, 256):
            if rows < seq_len:
                forms[f"blocks of {rows}"] = _in_blocks(
                    (batch, seq_len, heads, kv_heads, head_dim), turned, weights, rows, before, after
                )
    for name, (nodes, stored) in forms.items():
        yield Operator(
            group="attention of a part, rotated",
            name=name,
            shape=f"({batch}, {seq_len}, {heads}/{kv_heads} x {head_dim}), sees {_words(before)} to {_words(after)}",
            build=lambda nodes=nodes, stored=stored: graph(nodes, feeds, stored),
            elements=batch * seq_len * width,
        )


def _words(number: int | None) -> str:
    return "all" if number is None else str(number)


def _in_blocks(
    sizes: tuple, turned: list, weights: dict, rows: int, before: int, after: int
) -> tuple[list, dict]:
    """Blocks of queries with the keys around them, as export/embedge_export/graph/built/windows.py has them."""
    batch, seq_len, heads, kv_heads, head_dim = sizes
    blocks, keys = -(-seq_len // rows), rows + before + after
    starts = np.arange(blocks)[:, None] * rows
    places = starts + np.arange(keys) - before
    queries = starts + np.arange(rows)
    apart = places[:, None, :] - queries[:, :, None]
    inside = (places >= 0) & (places < seq_len)
    hidden = (apart > after) | (apart < -before) | ~inside[:, None]
    bias = np.where(hidden, _LOW, 0).astype(np.float32)[:, None]
    stored = weights | _shapes(batch * blocks, rows, keys, heads, kv_heads, head_dim)
    stored |= {
        "qat": np.minimum(queries, seq_len - 1),
        "kat": np.clip(places, 0, seq_len - 1),
        "bias": np.tile(bias, (batch, 1, 1, 1)),
        "start": np.array([0]), "stop": np.array([seq_len]), "axis": np.array([1]),
    }  # fmt: skip
    nodes = [
        *turned,
        *(
            node("Gather", f"{name} {at}", f"{name}b", axis=1)
            for name, at in (("qr", "qat"), ("kr", "kat"), ("v", "kat"))
        ),
        *_single("qrb", "krb", "vb", head_dim),
    ]
    nodes[-1].output[0] = "padded"
    return [*nodes, node("Slice", "padded start stop axis", "y")], stored
