"""embedge itself on the GPU: text to vectors, queries, refusals, memory, several devices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.gpu.timing import percentiles_ms


def refusal(call: Callable[[], object]) -> str:
    """What embedge says, or that it said nothing."""
    from embedge import EmbedgeError

    try:
        call()
    except EmbedgeError as error:
        return f"{type(error).__name__}: {error}"
    return "was not refused"


def free_card_bytes() -> int:
    """Free memory of the first card."""
    import torch

    return torch.cuda.mem_get_info(0)[0]


def seconds(model, texts: list[str], repeats: int = 3) -> float:
    """Best of some calls on all texts, after one on a part of them."""
    model.embed(texts[: len(texts) // 8]).numpy()
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        model.embed(texts).numpy()
        best = min(best, time.perf_counter() - began)
    return best


def throughput(bundle: Path, texts: list[str], batch_tokens: tuple[int | None, ...], device="cuda") -> dict:
    """Text to vectors with several sizes of batches, and the host's part alone."""
    from embedge import EdgeModel
    from embedge.measure import count_tokens

    result: dict = {"texts": len(texts), "texts_per_s": {}, "tokens_per_s": {}}
    for size in batch_tokens:
        with EdgeModel(bundle, device=device, truncate_prompt_tokens=-1, max_batch_tokens=size) as model:
            if "tokens" not in result:
                began = time.perf_counter()
                num_tokens = count_tokens(model, texts)
                result["tokenise_texts_per_s"] = len(texts) / (time.perf_counter() - began)
                result["tokens"] = int(num_tokens.sum())
                result["info"] = {
                    "device": model.info.device,
                    "variant": model.info.variant,
                    "placement": model.info.placement,
                }
            taken = seconds(model, texts)
            result["texts_per_s"][str(size)] = len(texts) / taken
            result["tokens_per_s"][str(size)] = result["tokens"] / taken
    return result


def _queries(texts: list[str]) -> list[str]:
    return [" ".join(text.split()[:12]) for text in texts[:300]]


def captured_queries(bundle: Path, texts: list[str]) -> dict[str, float]:
    """As `single_queries`, replayed from CUDA graphs; also agreement, and what loading takes of time and memory."""
    from embedge import EdgeModel

    queries = _queries(texts)
    loads = {}
    for name, options in (
        ("", {}),
        ("captured_", {"cuda_graphs": True}),
        # a limit that is none keeps the two sessions from sharing
        ("captured_unshared_", {"cuda_graphs": True, "device_memory_bytes": 1 << 40}),
    ):
        free = free_card_bytes()
        began = time.perf_counter()
        model = EdgeModel(bundle, device="cuda", **options)
        loads[f"{name}load_s"] = time.perf_counter() - began
        loads[f"{name}card_mb"] = (free - free_card_bytes()) / 1e6
        model.close()
    with (
        EdgeModel(bundle, device="cuda") as model,
        EdgeModel(bundle, device="cuda", cuda_graphs=True) as captured,
    ):
        result = percentiles_ms(lambda i: captured.embed(queries[i % 300]).numpy(), 400)
        rows = [(captured.embed(query).numpy(), model.embed(query).numpy()) for query in queries[:100]]
    return result | loads | {"cosine_min_to_uncaptured": float(min((a * b).sum() for a, b in rows))}


def single_queries(bundle: Path, texts: list[str]) -> dict[str, float]:
    """Text to vector of about 16 tokens, one at a time, and the part of it that is onnxruntime's run."""
    from embedge import EdgeModel
    from embedge.measure import graph_runs

    queries = _queries(texts)
    with EdgeModel(bundle, device="cuda") as model:
        result = percentiles_ms(lambda i: model.embed(queries[i % 300]).numpy(), 400)
        computed = graph_runs(model, queries)
        runs = percentiles_ms(lambda i: computed[i % 300](), 400)
    return result | {f"run_{name}": value for name, value in runs.items()}


def fidelity(bundle: Path, texts: list[str]) -> dict[str, float]:
    """The GPU's rows against the CPU's float32 rows, and a text alone against the same text in a batch."""
    from embedge import EdgeModel

    with EdgeModel(bundle, device="cpu", variant="fp32", truncate_prompt_tokens=-1) as model:
        expected = model.embed(texts).numpy()
    with EdgeModel(bundle, device="cuda", truncate_prompt_tokens=-1) as model:
        rows = model.embed(texts).numpy()
        lone = np.concatenate([model.embed(text).numpy() for text in texts[:64]])
    with EdgeModel(bundle, device="cuda", variant="fp32", truncate_prompt_tokens=-1) as model:
        full = model.embed(texts).numpy()
    return {
        "texts": len(texts),
        "fp16_cosine_min": float((rows * expected).sum(1).min()),
        "fp16_max_diff": float(np.abs(rows - expected).max()),
        "fp16_batch_diff": float(np.abs(lone - rows[:64]).max()),
        "fp32_max_diff": float(np.abs(full - expected).max()),
    }


def bad_input(bundle: Path) -> dict[str, str]:
    """What is said where something is asked that cannot be."""
    from embedge import EdgeModel

    said = {
        str(device): refusal(lambda d=device: EdgeModel(bundle, device=d))
        for device in ("cuda:77", ["cuda:0", "cuda:0"], ["cuda:0", "cpu"], "openvino")
    }
    said["cuda variant on the CPU"] = refusal(lambda: EdgeModel(bundle, device="cpu", variant="fp16_cuda"))
    said["max_batch_tokens=2**31"] = refusal(lambda: EdgeModel(bundle, device="cuda", max_batch_tokens=2**31))
    return said


def memory(bundle: Path) -> dict:
    """Too large a batch under a limit: the message, the model afterwards, and smaller batches where asked."""
    from embedge import EdgeModel

    texts = ["word " * 250] * 1500
    limits = {"max_batch_tokens": 300_000, "device_memory_bytes": 1_200_000_000}
    result: dict = {}
    with EdgeModel(bundle, device="cuda") as model:
        expected = model.embed(texts[0]).numpy()
    with EdgeModel(bundle, device="cuda", **limits) as model:
        result["message"] = refusal(lambda: model.embed(texts))
        result["cosine_afterwards"] = float((model.embed(texts[:2]).numpy() @ expected[0]).min())
    with EdgeModel(bundle, device="cuda", retry_smaller_batches=True, **limits) as model:
        result["cosine_of_smaller_batches"] = float((model.embed(texts).numpy() @ expected[0]).min())
        result["lost_devices"] = list(model.lost_devices)
    return result
