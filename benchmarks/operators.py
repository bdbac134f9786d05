"""Single ONNX operators on this machine's CPU provider: `python -m benchmarks.operators [--groups …]`.

The graph builder (export/embedge_export/graphs) writes the operators that win here, and the roofline of the tables is
the rate of the matrix products measured here. Every operator stands alone in a graph without onnxruntime's own
optimisations, in and outputs stay in place, and all are timed in turn, round after round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.machine import machine
from benchmarks.models import ROOT
from benchmarks.tables import number, table

RESULTS = ROOT / "benchmarks" / "results"
SEED = 0
MICROSOFT = "com.microsoft"
LAYER_PRODUCTS = {
    384: ((384, 384, 4), (384, 1536, 1), (1536, 384, 1)),
    768: ((768, 768, 4), (768, 3072, 1), (3072, 768, 1)),
}
"""By hidden size: in_features, out_features and how often each product stands in a layer of BERT."""

CEILING_PRODUCTS = {
    "float32": ("MatMul", "Gemm"),
    "int8": ("MatMulInteger u8 s8", "MatMulIntegerToFloat u8 s8"),
}
"""By precision: the products whose rate is the ceiling."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One thing to time.

    Attributes:
        group, name, shape: for tables.
        build: (names of nodes' inputs and outputs stand in them) -> serialised model and its feeds.
        elements: that it writes, for ns per element; 0 for products.
        flop: floating-point operations, for products.
    """

    group: str
    name: str
    shape: str
    build: Callable[[], tuple[bytes, dict[str, np.ndarray]]]
    elements: int = 0
    flop: int = 0


def graph(nodes, feeds, weights, outputs=("y",)) -> tuple[bytes, dict[str, np.ndarray]]:
    """A model of the nodes; `feeds` are its inputs, `weights` its initialisers, which onnxruntime may repack."""
    from onnx import TensorProto, helper, numpy_helper

    made = helper.make_graph(
        nodes,
        "operators",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    for output in made.output:
        output.ClearField("type")
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=imports, ir_version=10).SerializeToString(), feeds


def node(kind, inputs, outputs, domain="", **attributes):
    from onnx import helper

    return helper.make_node(kind, inputs.split(), outputs.split(), domain=domain, **attributes)


def normal(*shape) -> np.ndarray:
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)


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
    yield from _forms("normalisation", forms, rows, width)


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
    yield from _forms("activation", forms, rows, width)


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
    yield from _forms("quantisation", forms, rows, width)


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
    for name, (nodes, feeds, weights) in forms.items():
        yield Operator(
            group="product",
            name=name,
            shape=f"({rows}, {width}) x ({width}, {columns})",
            build=lambda nodes=nodes, feeds=feeds, weights=weights: graph(nodes, feeds, weights),
            flop=2 * rows * width * columns,
        )


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
    for name, (nodes, given, weights) in forms.items():
        yield Operator(
            group="attention",
            name=name,
            shape=f"({batch}, {seq_len}, {heads} x {head_dim})",
            build=lambda nodes=nodes, given=given, weights=weights: graph(nodes, given, weights),
            elements=batch * seq_len * width,
            flop=4 * batch * seq_len * seq_len * width,
        )
    scores = {"x": normal(batch, heads, seq_len, seq_len)}
    yield Operator(
        group="attention",
        name="Softmax",
        shape=f"({batch}, {heads}, {seq_len}, {seq_len})",
        build=lambda: graph([node("Softmax", "x", "y", axis=-1)], scores, {}),
        elements=batch * heads * seq_len * seq_len,
    )


def _forms(group, forms, rows, width) -> Iterator[Operator]:
    for name, (nodes, feeds, weights) in forms.items():
        yield Operator(
            group=group,
            name=name,
            shape=f"({rows}, {width})",
            build=lambda nodes=nodes, feeds=feeds, weights=weights: graph(nodes, feeds, weights),
            elements=rows * width,
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
}


class Timed:
    """A session of one operator, and how long its runs take."""

    def __init__(self, operator: Operator, threads: int, copies: int):
        import onnxruntime

        self.operator, self.threads, self.copies = operator, threads, copies
        model, feeds = operator.build()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.bindings = []
        for _ in range(copies):
            binding = self.session.io_binding()
            for name, value in feeds.items():
                binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
            for output in self.session.get_outputs():
                binding.bind_output(output.name)
            self.session.run_with_iobinding(binding)
            # what the first run allocated is written again by all others
            kept = list(zip(self.session.get_outputs(), binding.get_outputs(), strict=True))
            binding.clear_binding_outputs()
            for output, value in kept:
                binding.bind_ortvalue_output(output.name, value)
            self.bindings.append(binding)
        began = time.perf_counter()
        self._runs(self.bindings[0], 3)
        self.count = max(3, min(400, round(0.05 / ((time.perf_counter() - began) / 3))))
        self.ms: list[float] = []

    def measure(self, pool: ThreadPoolExecutor) -> None:
        """One round: many runs, on as many threads as there are copies."""
        began = time.perf_counter()
        list(pool.map(lambda binding: self._runs(binding, self.count), self.bindings))
        self.ms.append(1e3 * (time.perf_counter() - began) / (self.count * self.copies))

    def _runs(self, binding, count: int) -> None:
        for _ in range(count):
            self.session.run_with_iobinding(binding)

    def result(self) -> dict:
        """Medians over the rounds."""
        ms = statistics.median(self.ms)
        facts = {
            "group": self.operator.group,
            "name": self.operator.name,
            "shape": self.operator.shape,
            "threads": f"{self.copies}x{self.threads}",
            "ms": float(f"{ms:.4g}"),
            "ms_min": float(f"{min(self.ms):.4g}"),
        }
        if self.operator.elements:
            facts["ns_per_element"] = float(f"{1e6 * ms / self.operator.elements:.3g}")
        if self.operator.flop:
            facts["gflop_per_s"] = float(f"{self.operator.flop / ms / 1e6:.4g}")
        return facts


def run(groups: list[str], rounds: int, modes: list[tuple[int, int]]) -> list[dict]:
    """Time all operators of the groups.

    Args:
        groups: names in GROUPS.
        rounds: how often each is timed.
        modes: (copies, threads) pairs: (2, 1) runs an operator on two threads at a time, each with one of its own.
    """
    found = []
    operators = [operator for group in groups for operator in GROUPS[group]()]
    with ThreadPoolExecutor(max(copies for copies, _ in modes)) as pool:
        # one shape after the other, because what is open at a time has to fit in memory
        for key in dict.fromkeys((operator.group, operator.shape) for operator in operators):
            members = [operator for operator in operators if (operator.group, operator.shape) == key]
            timed = [each for operator in members for each in _open(operator, modes)]
            for _ in range(rounds):
                for each in timed:
                    each.measure(pool)
            found += [each.result() for each in timed]
            print(*key, file=sys.stderr)
    return found


def _open(operator: Operator, modes: list[tuple[int, int]]) -> list[Timed]:
    """Sessions of an operator; none, with a word on stderr, if this onnxruntime does not have it."""
    try:
        return [Timed(operator, threads, copies) for copies, threads in modes]
    except Exception as error:  # onnxruntime raises classes of its own
        print(f"left out: {operator.name} {operator.shape}: {error}", file=sys.stderr)
        return []


def ceilings(operators: list[dict]) -> dict[str, float]:
    """GFLOP/s of a BERT layer's products one after the other, by precision and hidden size; the best form counts."""
    found = {}
    for precision, names in CEILING_PRODUCTS.items():
        for hidden, parts in LAYER_PRODUCTS.items():
            rates = []
            for name, rows, mode in product(names, (512, 2048), {each["threads"] for each in operators}):
                ms = {e["shape"]: e["ms"] for e in operators if e["name"] == name and e["threads"] == mode}
                wanted = [(f"({rows}, {k}) x ({k}, {n})", 2 * rows * k * n, times) for k, n, times in parts]
                if all(shape in ms for shape, _, _ in wanted):
                    flop = sum(each * times for _, each, times in wanted)
                    rates.append(flop / sum(ms[shape] * times for shape, _, times in wanted) / 1e6)
            if rates:
                found[f"{precision} {hidden}"] = float(f"{max(rates):.4g}")
    return found


def render(results: dict) -> str:
    """Markdown of a results file."""
    machine_ = results["machine"]
    parts = [
        f"# Operators\n\n{machine_['cpu']}, {machine_['cores']} cores, {', '.join(machine_['flags'])}; onnxruntime "
        f"{results['onnxruntime']}. Medians of {results['rounds']} rounds; 1x2 is one run on two threads, 2x1 two runs "
        "at a time on one thread each, milliseconds per run.\n",
        "Products of a BERT layer, one after the other: "
        + ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in results["ceilings"].items())
        + ".\n",
    ]
    modes = list(dict.fromkeys(each["threads"] for each in results["operators"]))
    for group in dict.fromkeys(each["group"] for each in results["operators"]):
        members = [each for each in results["operators"] if each["group"] == group]
        unit, title = (
            ("gflop_per_s", "GFLOP/s") if group == "product" else ("ns_per_element", "ns per element")
        )
        rows = []
        for key in dict.fromkeys((each["shape"], each["name"]) for each in members):
            by_mode = {each["threads"]: each for each in members if (each["shape"], each["name"]) == key}
            cells = [
                _small(by_mode[mode][field]) if mode in by_mode else "–"
                for field in ("ms", unit)
                for mode in modes
            ]
            rows.append([key[1], key[0], *cells])
        header = ["operator", "shape", *(f"ms, {m}" for m in modes), *(f"{title}, {m}" for m in modes)]
        parts.append(f"## {group}\n\n{table(header, rows)}\n")
    return "\n".join(parts)


def _small(value: float) -> str:
    return number(value) if value >= 1 else f"{value:.3f}"


def main() -> None:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operators", description="Time single ONNX operators."
    )
    parser.add_argument("--groups", default=",".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modes", default="1x2,2x1", help="copies x threads, e.g. 1x1")
    parser.add_argument("--name", default="cpu-operators")
    args = parser.parse_args()
    modes = [tuple(map(int, mode.split("x"))) for mode in args.modes.split(",")]
    operators = run(args.groups.split(","), args.rounds, modes)
    results = {
        "machine": machine(),
        "onnxruntime": onnxruntime.__version__,
        "rounds": args.rounds,
        "seed": SEED,
        "ceilings": ceilings(operators),
        "operators": operators,
    }
    file = Path(RESULTS / f"{args.name}.json")
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(render(results))


if __name__ == "__main__":
    main()
