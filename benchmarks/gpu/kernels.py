"""Where a run's time on the card goes, kernel by kernel, as CUDA's own tracing sees it; and products in FP8."""

from __future__ import annotations

import numpy as np

from benchmarks.gpu.device import DeviceGraph
from benchmarks.gpu.models import SEED, feeds
from benchmarks.gpu.timing import seconds_per_run

RUNS = 10
WORK = {
    "products": ("nvjet", "gemm", "gemv", "cutlass_80", "cutlass_90", "splitK"),
    "attention": ("flash_fwd", "attention_kernel", "fmha", "sdpa"),
    "turning": ("RotaryEmbedding", "RoPE"),
    "normalisation": ("LayerNorm",),
    "activation and gate": ("Gelu", "OP_Mul<", "OP_Sigmoid"),
}
"""Parts of a kernel's name that tell what it works at; what has none of them is the rest."""
PRODUCTS = ((16384, 768, 3072), (16384, 3072, 768), (16384, 1024, 3072), (32768, 768, 768))
"""Rows, inner and outer size of a layer's products."""


def work_of(kernel: str) -> str:
    """What a kernel works at, by its name."""
    for work, parts in WORK.items():
        if any(part in kernel for part in parts):
            return work
    return "the rest"


def shares(made: DeviceGraph, shape: tuple[int, int], *, ragged: bool = False) -> dict[str, float]:
    """Milliseconds of a run by what its kernels work at, and their sum.

    Args:
        made: a graph whose inputs and outputs stay on the card.
        shape: texts and tokens.
        ragged: texts of all lengths up to that.
    """
    import torch

    binding = made.bind(feeds(*shape, ragged=ragged))

    def run() -> None:
        made.session.run_with_iobinding(binding, made.run_options)

    for _ in range(3):
        run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        for _ in range(RUNS):
            run()
        torch.cuda.synchronize()
    found = dict.fromkeys((*WORK, "the rest", "all"), 0.0)
    for event in seen.key_averages():
        milliseconds = event.device_time_total / 1e3 / RUNS
        found[work_of(event.key)] += milliseconds
        found["all"] += milliseconds
    return found


def fp8() -> dict[str, dict[str, float]]:
    """TFLOP/s of a layer's products by MatMul in float16, and by GemmFloat8 with the rows' rounding before it."""
    import ml_dtypes
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(SEED)
    rates: dict[str, dict[str, float]] = {}
    for rows, inner, outer in PRODUCTS:
        weight = rng.standard_normal((inner, outer), np.float32) * 0.05
        forms = {
            "float16": (
                [helper.make_node("MatMul", ["x", "w"], ["y"])],
                weight.astype(np.float16),
                TensorProto.FLOAT16,
            ),
            "fp8": (
                [
                    helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.FLOAT8E4M3FN),
                    helper.make_node(
                        "GemmFloat8",
                        ["narrow", "w", "", "one", "one"],
                        ["y"],
                        domain="com.microsoft",
                        transB=1,
                        dtype=TensorProto.FLOAT16,
                    ),
                ],
                np.ascontiguousarray(weight.T).astype(ml_dtypes.float8_e4m3fn),
                TensorProto.FLOAT8E4M3FN,
            ),
        }
        found = rates[f"{rows} x {inner} x {outer}"] = {}
        for name, (nodes, array, kind) in forms.items():
            graph = helper.make_graph(
                nodes,
                name,
                [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [rows, inner])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [rows, outer])],
                [
                    helper.make_tensor("w", kind, array.shape, array.tobytes(), raw=True),
                    numpy_helper.from_array(np.ones(1, np.float32), "one"),
                ],
            )
            opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
            model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
            x = rng.standard_normal((rows, inner), np.float32).astype(np.float16)
            seconds = _seconds(DeviceGraph(model.SerializeToString()), x)
            found[name] = 2 * rows * inner * outer / seconds / 1e12
    return rates


def _seconds(made: DeviceGraph, rows: np.ndarray) -> float:
    """Time of one run of a graph from "x" to "y"."""
    import torch

    binding = made.session.io_binding()
    binding.bind_ortvalue_input("x", made.ort.OrtValue.ortvalue_from_numpy(rows, "cuda", 0))
    binding.bind_output("y", "cuda", 0)
    return seconds_per_run(
        lambda: made.session.run_with_iobinding(binding, made.run_options), torch.cuda.synchronize
    )
