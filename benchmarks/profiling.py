"""Where a run's time goes: onnxruntime's own profile of each variant, operator by operator, on one thread."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks import models, runner
from benchmarks.tables import number, table

BATCH = (8, 64)
"""Texts and tokens: 512 tokens, the size of batch that workers take."""
RUNS = 60
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "MatMulIntegerToFloat", "MatMulInteger", "DynamicQuantizeMatMul")
ATTENTION = ("MultiHeadAttention", "Attention", "GroupQueryAttention", "Softmax")


def run(model: str, file: Path) -> None:
    """Profile a model's variants, and write the figures into a results file.

    Args:
        model: name in MODELS.
        file: results.
    """
    from embedge.manifest import load_manifest

    results = runner.open_results(file)
    bundle = Path(runner.make(model)["bundle"])
    variants = {
        name: _profile(bundle / spec.file, spec.disabled_optimizers)
        for name, spec in load_manifest(bundle).variants.items()
    }
    results["profile"] = {"model": model, "batch": list(BATCH), "runs": RUNS, "variants": variants}
    runner.write(file, results)
    print(render(results))


def _profile(graph: Path, disabled_optimizers: tuple[str, ...]) -> dict:
    """Milliseconds of a run by operator: the lower quartile of each node's times, which others disturb least."""
    from embedge.runtime import import_onnxruntime

    ort = import_onnxruntime()
    rng = np.random.default_rng(models.SEED)
    ids = rng.integers(1000, 20000, BATCH)
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    with tempfile.TemporaryDirectory(prefix="embedge-") as scratch:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(
            str(graph),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(disabled_optimizers),
        )
        feeds = {value.name: known[value.name] for value in session.get_inputs()}
        output = session.get_outputs()[-1].name
        for _ in range(RUNS):
            session.run([output], feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    return summed(events)


def summed(events: list[dict]) -> dict:
    """Nodes and milliseconds by operator of onnxruntime's events."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    operators: dict[str, dict] = defaultdict(lambda: {"nodes": 0, "ms": 0.0})
    for (operator, _), found in times.items():
        operators[operator]["nodes"] += 1
        operators[operator]["ms"] += statistics.quantiles(found, n=4)[0] if len(found) > 1 else found[0]
    ordered = sorted(operators.items(), key=lambda item: -item[1]["ms"])
    return {name: {"nodes": each["nodes"], "ms": round(each["ms"], 4)} for name, each in ordered}


def render(results: dict) -> str:
    """A table of operators per variant, and what follows from it; empty without a profile."""
    profile = results.get("profile")
    if not profile:
        return ""
    parts = [explain(results)]
    for name, operators in profile["variants"].items():
        total = sum(each["ms"] for each in operators.values())
        rows = [
            [operator, str(each["nodes"]), number(each["ms"]), f"{100 * each['ms'] / total:.1f} %"]
            for operator, each in operators.items()
            if each["ms"] > 0.005 * total
        ]
        rest = total - sum(each["ms"] for each in operators.values() if each["ms"] > 0.005 * total)
        rows.append(["all others", "–", number(rest), f"{100 * rest / total:.1f} %"])
        parts.append(f"{name}, {number(total)} ms:\n\n" + table(["operator", "nodes", "ms", "share"], rows))
    return "\n\n".join(parts)


def explain(results: dict) -> str:
    """What a faster graph could still win, in words made of the figures; empty without a profile."""
    profile = results.get("profile")
    if not profile:
        return ""
    rows, tokens = profile["batch"]
    model = models.MODELS[profile["model"]]
    weights = 2 * model.layers * (4 * model.hidden**2 + 2 * model.hidden * model.intermediate)
    said = []
    for name, operators in profile["variants"].items():
        total = sum(each["ms"] for each in operators.values())
        products = sum(operators[kind]["ms"] for kind in PRODUCTS if kind in operators)
        attention = sum(operators[kind]["ms"] for kind in ATTENTION if kind in operators)
        rate = rows * tokens * weights / products / 1e6
        said.append(
            f"{name}: {100 * products / total:.0f} % of the time is in the products with weights, at {rate:,.0f} "
            f"G{'FLOP' if name == 'fp32' else 'OP'}/s, {100 * attention / total:.0f} % in attention; if all but these "
            f"two cost nothing, it would be {total / (products + attention):.2f} times as fast"
        )
    return (
        f"onnxruntime's profile of {rows} texts of {tokens} tokens on one thread says where the time goes. "
        + ". ".join(said)
        + "."
    )
