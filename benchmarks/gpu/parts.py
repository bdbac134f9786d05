"""What `python -m benchmarks.gpu` measures, part by part."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from unittest import mock

from benchmarks.gpu import device, kernels, models, others, peers, sdk, texts

MAIN = "bert-base"
CHOSEN = "packed"


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
