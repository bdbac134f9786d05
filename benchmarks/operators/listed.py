"""The operators that are timed, in the shapes of small and base encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.operators.attending import seen
from benchmarks.operators.single import MICROSOFT, SEED, Operator, graph, node, normal


def normalisations(rows: int, width: int) -> Iterator[Operator]:
    """Layer normalisation with and without the additions before it."""
    x = {"x": normal(1, rows, width)}
    two = x | {"r": normal(1, rows, width)}
    scale, bias = {"g": normal(width)}, {"b": normal(width)}
    norm = node("LayerNormalization", "s g b", "y", epsilon=1e-12)
    forms = {
        "LayerNormalization": ([node("LayerNormalization", "x g b", "y", epsilon=1e-12)], x, scale | bias),
        "Add, LayerNormalization": ([node("Add", "x r", "s"), norm], two, scale | bias),
        "Add, Add, LayerNormalization": (
            [node("Add", "x c", "t"), node("Add", "t r", "s"), norm],
            two,
            scale | bias | {"c": normal(width)},
        ),
        "SkipLayerNormalization": (
            [node("SkipLayerNormalization", "x r g b", "y", MICROSOFT, epsilon=1e-12)],
            two,
            scale | bias,
        ),
        "SkipLayerNormalization with bias": (
            [node("SkipLayerNormalization", "x r g b c", "y", MICROSOFT, epsilon=1e-12)],
            two,
            scale | bias | {"c": normal(width)},
        ),
        "SimplifiedLayerNormalization": (
            [node("SimplifiedLayerNormalization", "x g", "y", epsilon=1e-6)],
            x,
            scale,
        ),
        "SkipSimplifiedLayerNormalization": (
            [node("SkipSimplifiedLayerNormalization", "x r g", "y", MICROSOFT, epsilon=1e-6)],
            two,
            scale,
        ),
    }
    yield from _forms("normalisation", forms, f"({rows}, {width})", elements=rows * width)


def activations(rows: int, width: int) -> Iterator[Operator]:
    """GELU and its parts."""
    x, bias = {"x": normal(rows, width)}, {"b": normal(width)}
    erf = {"two": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    erf = {name: np.asarray(value) for name, value in erf.items()}
    forms = {
        "Gelu": ([node("Gelu", "x", "y", MICROSOFT)], x, {}),
        "Add, Gelu": ([node("Add", "x b", "s"), node("Gelu", "s", "y", MICROSOFT)], x, bias),
        "BiasGelu": ([node("BiasGelu", "x b", "y", MICROSOFT)], x, bias),
        "FastGelu": ([node("FastGelu", "x", "y", MICROSOFT)], x, {}),
        "QuickGelu": ([node("QuickGelu", "x", "y", MICROSOFT)], x, {}),
        "GELU as Div, Erf, Add, Mul, Mul": (
            [
                node("Div", "x two", "d"),
                node("Erf", "d", "e"),
                node("Add", "e one", "a"),
                node("Mul", "x a", "m"),
                node("Mul", "m half", "y"),
            ],
            x,
            erf,
        ),
        "Erf": ([node("Erf", "x", "y")], x, {}),
        "Tanh": ([node("Tanh", "x", "y")], x, {}),
        "Sigmoid": ([node("Sigmoid", "x", "y")], x, {}),
    }
    yield from _forms("activation", forms, f"({rows}, {width})", elements=rows * width)


def quantisations(rows: int, width: int) -> Iterator[Operator]:
    """float32 to 8 bits, and what finds the scales."""
    x = {"x": normal(rows, width)}
    axes = {"axes": np.array([-1])}
    zero = {"scale": np.asarray(np.float32(0.03)), "zero": np.asarray(np.uint8(128))}
    one = {"scale": np.asarray(np.float32(1)), "zero": np.asarray(np.uint8(128))}
    find = [
        node("ReduceMax", "x axes", "high"),
        node("ReduceMin", "x axes", "low"),
        node("Neg", "low", "minus"),
        node("Max", "high minus", "largest"),
    ]
    forms = {
        "DynamicQuantizeLinear": ([node("DynamicQuantizeLinear", "x", "y s z")], x, {}),
        "QuantizeLinear, one scale": ([node("QuantizeLinear", "x scale zero", "y")], x, zero),
        "QuantizeLinear, a scale per row": (
            [node("QuantizeLinear", "x scale zero", "y", axis=0)],
            x,
            {"scale": np.full(rows, 0.03, np.float32), "zero": np.full(rows, 128, np.uint8)},
        ),
        "Abs, ReduceMax": ([node("Abs", "x", "a"), node("ReduceMax", "a axes", "y")], x, axes),
        "ReduceMax": ([node("ReduceMax", "x axes", "y")], x, axes),
        "ReduceMax, ReduceMin, Neg, Max": ([*find[:3], node("Max", "high minus", "y")], x, axes),
        "per row: largest, Div, QuantizeLinear": (
            [
                *find,
                node("Div", "largest limit", "s"),
                node("Div", "x s", "d"),
                node("QuantizeLinear", "d scale zero", "y"),
            ],
            x,
            axes | one | {"limit": np.asarray(np.float32(127))},
        ),
        "Mul by one number per row": ([node("Mul", "x s", "y")], x | {"s": normal(rows, 1)}, {}),
    }
    yield from _forms("quantisation", forms, f"({rows}, {width})", elements=rows * width)


def products(rows: int, width: int, columns: int) -> Iterator[Operator]:
    """Activations (rows, width) times a stored matrix (width, columns)."""
    rng = np.random.default_rng(SEED)
    x, w, bias = {"x": normal(rows, width)}, {"w": normal(width, columns)}, {"b": normal(columns)}
    x8 = {"x": rng.integers(0, 256, (rows, width), dtype=np.uint8)}
    w8 = {"w": rng.integers(-127, 128, (width, columns), dtype=np.int8)}
    u8 = {"w": rng.integers(0, 256, (width, columns), dtype=np.uint8), "wz": np.full(columns, 128, np.uint8)}
    scales = {
        "a": np.asarray(np.float32(0.03)),
        "s": np.full(columns, 0.01, np.float32),
        "az": np.asarray(np.uint8(128)),
    }
    zeros = {"wz": np.zeros(columns, np.int8)}
    forms = {
        "MatMul": ([node("MatMul", "x w", "y")], x, w),
        "MatMul, Add": ([node("MatMul", "x w", "m"), node("Add", "m b", "y")], x, w | bias),
        "Gemm": ([node("Gemm", "x w b", "y")], x, w | bias),
        "MatMulInteger u8 s8": ([node("MatMulInteger", "x w az", "y")], x8, w8 | {"az": scales["az"]}),
        "MatMulIntegerToFloat u8 s8": (
            [node("MatMulIntegerToFloat", "x w a s az wz", "y", MICROSOFT)],
            x8,
            w8 | scales | zeros,
        ),
        "MatMulIntegerToFloat u8 u8": (
            [node("MatMulIntegerToFloat", "x w a s az wz", "y", MICROSOFT)],
            x8,
            u8 | scales,
        ),
        "DynamicQuantizeMatMul": (
            [node("DynamicQuantizeMatMul", "x w s wz", "y", MICROSOFT)],
            x,
            w8 | {"s": scales["s"]} | zeros,
        ),
    }
    for bits in (8, 4):
        blocks = width // 32
        packed = rng.integers(0, 256, (columns, blocks, 32 * bits // 8), dtype=np.uint8)
        forms[f"MatMulNBits {bits} bit, accuracy_level 4"] = (
            [
                node(
                    "MatMulNBits",
                    "x w s",
                    "y",
                    MICROSOFT,
                    K=width,
                    N=columns,
                    bits=bits,
                    block_size=32,
                    accuracy_level=4,
                )
            ],
            x,
            {"w": packed, "s": np.full(columns * blocks, 0.01, np.float32)},
        )
    shape = f"({rows}, {width}) x ({width}, {columns})"
    yield from _forms("product", forms, shape, flop=2 * rows * width * columns)


def attentions(batch: int, seq_len: int, heads: int, head_dim: int) -> Iterator[Operator]:
    """Bidirectional attention of queries, keys and values that are at hand."""
    width = heads * head_dim
    feeds = {name: normal(batch, seq_len, width) for name in "qkv"}
    mask = np.ones((batch, seq_len), np.int32)
    shape = {"to": np.array([0, 0, heads, head_dim]), "back": np.array([0, 0, width])}
    scaled = {
        "scale": np.asarray(np.float32(head_dim**-0.5)),
        "bias": np.zeros((batch, 1, 1, seq_len), np.float32),
    }
    split = [node("Reshape", f"{n} to", f"{n}4") for n in "qkv"]
    turned = [
        node("Transpose", f"{n}4", f"{n}t", perm=(0, 2, 3, 1) if n == "k" else (0, 2, 1, 3)) for n in "qkv"
    ]
    forms = {
        "MultiHeadAttention": (
            [node("MultiHeadAttention", "q k v", "y", MICROSOFT, num_heads=heads)],
            feeds,
            {},
        ),
        "MultiHeadAttention with a mask": (
            [node("MultiHeadAttention", "q k v bq mask", "y", MICROSOFT, num_heads=heads)],
            feeds | {"mask": mask},
            {"bq": np.zeros(3 * width, np.float32)},
        ),
        "Reshape, Transpose, MatMul, Mul, Add, Softmax, MatMul, Transpose, Reshape": (
            [
                *split,
                *turned,
                node("MatMul", "qt kt", "scores"),
                node("Mul", "scores scale", "scaled"),
                node("Add", "scaled bias", "masked"),
                node("Softmax", "masked", "shares", axis=-1),
                node("MatMul", "shares vt", "mixed"),
                node("Transpose", "mixed", "rows", perm=(0, 2, 1, 3)),
                node("Reshape", "rows back", "y"),
            ],
            feeds,
            shape | scaled,
        ),
    }
    yield from _forms(
        "attention",
        forms,
        f"({batch}, {seq_len}, {heads} x {head_dim})",
        elements=batch * seq_len * width,
        flop=4 * batch * seq_len * seq_len * width,
    )


def _forms(group: str, forms: dict, shape: str, *, elements: int = 0, flop: int = 0) -> Iterator[Operator]:
    """An operator for each form: its nodes, feeds and weights by its name."""
    for name, (nodes, feeds, weights) in forms.items():
        yield Operator(
            group=group,
            name=name,
            shape=shape,
            build=lambda nodes=nodes, feeds=feeds, weights=weights: graph(nodes, feeds, weights),
            elements=elements,
            flop=flop,
        )


GROUPS: dict[str, Callable[[], list[Operator]]] = {
    "normalisation": lambda: [
        *normalisations(512, 384),
        *normalisations(2048, 384),
        *normalisations(2048, 768),
    ],
    "activation": lambda: [*activations(512, 1536), *activations(2048, 1536)],
    "quantisation": lambda: [*quantisations(512, 384), *quantisations(2048, 384), *quantisations(2048, 1536)],
    "product": lambda: (
        [
            operator
            for rows in (16, 512, 2048)
            for width, columns in ((384, 384), (384, 1152), (384, 1536), (1536, 384))
            for operator in products(rows, width, columns)
        ]
        + [operator for shape in ((768, 768), (768, 3072), (3072, 768)) for operator in products(512, *shape)]
    ),
    "attention": lambda: [
        *attentions(16, 128, 12, 32),
        *attentions(128, 16, 12, 32),
        *attentions(8, 256, 12, 32),
    ],
    "part": lambda: [
        operator
        for batch, seq_len in ((8, 128), (2, 512), (1, 2048))
        for kv_heads, heads, before, after in (
            (6, 6, None, None),
            (6, 6, 64, 64),
            (4, 8, None, 0),
            (4, 8, 511, 0),
        )
        for operator in seen(batch, seq_len, heads, kv_heads, 64, before=before, after=after)
    ],
}
