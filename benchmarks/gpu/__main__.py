"""Measure on a machine with a CUDA GPU, part by part, each in a process of its own.

    python -m benchmarks.gpu --tokenizer FILE [--documents FILE] [--output FILE] [PART …]

Weights and texts are made on the spot; the tokenizer is BERT's (tokenizer.json of all-MiniLM-L6-v2). Each part adds
its figures to the output file as it ends, so that a part that fails or hangs takes nothing with it. Parts that are
asked for by name are put in place of those in the file, which then says that they were measured later.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from benchmarks.gpu import device, kernels, models, others, peers, sdk, texts

MAIN = "bert-base"
CHOSEN = "packed"
PART_S = 200


class Context:
    """Where a part finds what it measures."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.work: Path = args.work
        self.work.mkdir(parents=True, exist_ok=True)
        self._args = args
        self.pool = texts.documents(args.documents or self.work / "documents.json")

    def checkpoint(self, name: str = MAIN) -> Path:
        return models.checkpoint(name, self.work / "checkpoints", self._args.tokenizer)

    def bundle(self, name: str = MAIN, form: str | None = None) -> Path:
        form = form or self._args.form
        return models.bundle(self.checkpoint(name), self.work / f"bundle-{name}-{form}", form)

    def passages(self, count: int) -> list[str]:
        return texts.passages(self.pool, count, mean_words=36.0)


def machine(context: Context) -> dict:
    import onnxruntime
    import torch
    import transformers

    from benchmarks.machine import machine as host

    return {
        "form": context._args.form,
        "note": context._args.note,
        "cards": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "host": host(),
    }


def ceiling(_: Context) -> dict:
    return peers.ceiling(MAIN)


def torch(context: Context) -> dict:
    made = peers.torch_rates(context.checkpoint(), device.SHAPES, masked=True)
    return {
        MAIN: made["rates"],
        "masked": made["masked"],
        "minilm": peers.torch_rates(context.checkpoint("minilm"), device.SHAPES)["rates"],
    }


def forms(context: Context) -> dict:
    """Ways to write the graph for CUDA: speed at every shape, and agreement with torch float32."""
    batches = [models.feeds(32, 64, ragged=True), models.feeds(16, 128), models.feeds(1, 9)]
    folder = context.checkpoint()
    expected = peers.reference(folder, batches)
    result: dict = {}
    for form in context._args.forms.split(","):
        graph = models.graph(folder, form).SerializeToString()
        try:
            made = device.DeviceGraph(graph)
            rows = [made.rows(batch) for batch in batches]
            result[form] = {
                "elsewhere": made.placement(),
                "agreement": device.agreement(rows, expected),
                "tokens_per_s": made.rates(),
                "query_ms": made.query_ms(),
            }
            result[form]["new_shape_ms"] = made.new_shape_ms()
        except Exception as error:  # a form that onnxruntime refuses is a result
            result[form] = {"error": str(error)[:500]}
        print(form, json.dumps(result[form]), file=sys.stderr)
    return result


def families(_: Context) -> dict:
    """Small encoders of every family: the graph for CUDA on the GPU against the float32 graph on the CPU."""
    return {
        f"{name}, {precision}": _compare_family(name, precision)
        for precision in ("fp16", "bf16")
        for name in models.families()
    }


def _compare_family(name: str, precision: str) -> dict:
    full, made, form, inputs = models.family_graphs(name, precision)
    real = inputs["attention_mask"] > 0
    try:
        rows, elsewhere = device.run_once(made, "CUDAExecutionProvider", inputs)
    except Exception as error:  # what onnxruntime refuses is a result
        return {"form": form, "error": str(error)[:300]}
    expected, _ = device.run_once(full, "CPUExecutionProvider", inputs)
    return {"form": form, "elsewhere": elsewhere} | device.agreement([rows[real]], [expected[real]])


def decoder(_: Context) -> dict:
    return others.measure("qwen3, 0.6 B")


def windows(_: Context) -> dict:
    return others.measure("modernbert, base")


def shares(_: Context) -> dict:
    """Where the time of other layouts goes, by what their kernels work at."""
    return others.shares()


def fp8(_: Context) -> dict:
    return kernels.fp8()


def cuda_graph(context: Context) -> dict:
    """One short text, run operator by operator and replayed from a captured CUDA graph."""
    result: dict = {}
    for form in ("attention", "query"):
        graph = models.graph(context.checkpoint(), form).SerializeToString()
        for name, options in (("bound", {}), ("captured", {"enable_cuda_graph": "1"})):
            result[f"{form}, {name}"] = _replayed(graph, options)
    return result


def _replayed(graph: bytes, options: dict[str, str]) -> dict:
    try:
        return device.DeviceGraph(graph, **options).replayed_query_ms()
    except Exception as error:  # what cannot be captured is a result
        return {"error": str(error)[:300]}


def traced(context: Context) -> dict:
    """A general exporter's float16 graph in plain onnxruntime."""
    made = device.DeviceGraph(peers.traced(context.checkpoint()))
    batches = [models.feeds(32, 64, ragged=True), models.feeds(16, 128)]
    expected = peers.reference(context.checkpoint(), batches)
    return {
        "tokens_per_s": made.rates(),
        "query_ms": made.query_ms(),
        "agreement": device.agreement([made.rows(batch) for batch in batches], expected),
    }


def minilm(context: Context) -> dict:
    folder = context.checkpoint("minilm")
    made = device.DeviceGraph(models.graph(folder, context._args.form).SerializeToString())
    return {"tokens_per_s": made.rates(), "query_ms": made.query_ms()}


def bulk(context: Context) -> dict:
    """Text to vectors as it is by default, and with fewer batches in flight on a device."""
    passages = context.passages(100_000)
    result = sdk.throughput(context.bundle(), passages, (None,))
    with mock.patch("embedge._sessions.on_devices._BATCHES_IN_FLIGHT", 2):
        made = sdk.throughput(context.bundle(), passages, (None,))
    result["texts_per_s"]["2 in flight"] = made["texts_per_s"]["None"]
    return result


def bulk_minilm(context: Context) -> dict:
    return sdk.throughput(context.bundle("minilm"), context.passages(100_000), (None,))


def query(context: Context) -> dict:
    """One query at a time; also from captured CUDA graphs, and without the branch between two forms."""
    passages = context.passages(300)
    return sdk.single_queries(context.bundle(), passages) | {
        "captured": sdk.captured_queries(context.bundle(), passages),
        "captured_minilm": sdk.captured_queries(context.bundle("minilm"), passages),
        "minilm": sdk.single_queries(context.bundle("minilm"), passages),
        "unbranched": sdk.single_queries(context.bundle(form="packed_attention"), passages),
    }


def fidelity(context: Context) -> dict:
    return sdk.fidelity(context.bundle(), context.passages(192))


def refusals(context: Context) -> dict:
    return sdk.bad_input(context.bundle()) | {"memory": sdk.memory(context.bundle())}


def sentence_transformers(context: Context) -> dict:
    import numpy as np

    from embedge import EdgeModel

    passages = context.passages(100_000)
    result = peers.sentence_transformers(context.checkpoint(), passages)
    with EdgeModel(context.bundle(), device="cuda", truncate_prompt_tokens=-1) as model:
        rows = model.embed(passages[:64]).numpy()
    cosines = (rows * np.asarray(result.pop("first_rows"))).sum(1)
    return result | {"cosine_min_to_embedge": float(cosines.min())}


def two(context: Context) -> dict:
    """All GPUs against one, where there are several."""
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return {"skipped": f"{count} GPU here; expected two or more"}
    passages = context.passages(200_000)
    one = sdk.throughput(context.bundle(), passages, (None,), "cuda")
    many = sdk.throughput(context.bundle(), passages, (None,), [f"cuda:{i}" for i in range(count)])
    return {"one": one, "many": many, "gain": many["texts_per_s"]["None"] / one["texts_per_s"]["None"]}


PARTS = {
    part.__name__: part
    for part in (
        machine, ceiling, families, forms, bulk, query, fidelity, refusals, sentence_transformers, torch, traced,
        minilm, cuda_graph, bulk_minilm, decoder, windows, shares, fp8, two,
    )
}  # fmt: skip


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is no part; expected some of {', '.join(PARTS)}")
    return name


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments; no parts mean all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    # by type, as choices would have to hold the empty list as well
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/gpu.json"))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "embedge-gpus")
    parser.add_argument("--form", choices=list(models.FORMS), default=CHOSEN)
    parser.add_argument(
        "--forms",
        default=f"{CHOSEN},packed_attention,packed_multi_head_attention,attention,standard,bfloat16",
        help=f"some of {', '.join(models.FORMS)}",
    )
    parser.add_argument("--note", default="", help="what else is to be known of the run, for the results")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main() -> None:
    args = arguments()
    if args.inside:
        logging.basicConfig(level=logging.ERROR)
        figures = PARTS[args.inside](Context(args))
        print(json.dumps(figures))
        return
    result = json.loads(args.output.read_text()) if args.output.is_file() and args.parts else {}
    if result:
        result["later"] = sorted({*result.get("later", []), *args.parts})
    for part in args.parts or PARTS:
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], "--inside", part]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PART_S, check=True)
            result[part] = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, ValueError, IndexError) as error:
            result[part] = {"error": f"{type(error).__name__}: {error}"[-300:]}
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{part}: {time.perf_counter() - began:.1f} s {json.dumps(result[part])[:1500]}", flush=True)


if __name__ == "__main__":
    main()
