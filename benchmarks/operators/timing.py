"""Time operators in turn, round after round, and find the rate of a layer's products."""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from benchmarks.operators.listed import GROUPS
from benchmarks.operators.single import Operator

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
