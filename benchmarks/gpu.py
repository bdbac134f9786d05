"""The SDK on a CUDA GPU: the CPU's numbers, refusals, and text to vectors; run on a machine with onnxruntime-gpu.

    python -m benchmarks.gpu BUNDLE > benchmarks/results/gpu.json

The bundle's graph is the general one, without operators chosen for CUDA. Torch runs an encoder of the same shape with
random weights in float16 and SDPA, from token ids that are ready: it does no tokenising, so its figure is a ceiling.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import sys
import time

import numpy as np

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "at",
]


def make_texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(WORDS, k=max(1, min(200, int(rng.lognormvariate(4, 0.5))))))
        for _ in range(count)
    ]


def throughput(embed, texts: list[str], repeats: int = 3) -> float:
    embed(texts[: len(texts) // 4])
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        embed(texts)
        seconds.append(time.perf_counter() - began)
    return len(texts) / statistics.median(seconds)


def torch_rate(shape: tuple[int, int]) -> float:
    """Texts a second of MiniLM's shape in torch float16 SDPA, from ready token ids."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    model = BertModel(config, add_pooling_layer=False).half().cuda().eval()
    ids = torch.randint(1000, 30000, shape, device="cuda")
    mask = torch.ones(shape, dtype=torch.int64, device="cuda")
    with torch.inference_mode():
        for _ in range(10):
            model(input_ids=ids, attention_mask=mask)
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(50):
            model(input_ids=ids, attention_mask=mask).last_hidden_state.float().mean(1)
        torch.cuda.synchronize()
    return 50 * shape[0] / (time.perf_counter() - began)


def refusal(call) -> str:
    from embedge import EmbedgeError

    try:
        call()
    except EmbedgeError as error:
        return f"{type(error).__name__}: {error}"
    return "was not refused"


def main() -> None:
    import onnxruntime
    import torch

    from embedge import EdgeModel

    bundle = sys.argv[1]
    texts = make_texts(20_000)
    result: dict = {
        "card": torch.cuda.get_device_name(0),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    with EdgeModel(bundle, device="cpu", truncate_prompt_tokens=-1) as model:
        expected = model.embed(texts[:400]).numpy()
    with EdgeModel(bundle, device="cuda", truncate_prompt_tokens=-1) as model:
        result["info"] = {"device": model.info.device, "provider": model.info.execution_provider}
        actual = model.embed(texts[:400]).numpy()
        result["max_abs_diff"] = float(np.abs(actual - expected).max())
        result["cosine_min"] = float((actual * expected).sum(1).min())
        lone = np.concatenate([model.embed(text).numpy() for text in texts[:50]])
        result["max_batch_diff"] = float(np.abs(lone - actual[:50]).max())
        seconds = []
        for text in texts[:200]:
            began = time.perf_counter()
            model.embed(" ".join(text.split()[:14]))
            seconds.append(time.perf_counter() - began)
        result["query_p50_ms"] = 1e3 * statistics.median(seconds)
        outputs = model.embed(texts)
        result["mean_tokens"] = float(np.mean([len(o.prompt_token_ids) for o in outputs]))
        began = time.perf_counter()
        model._engine.tokenizer.encode(texts, [-1] * len(texts))
        result["tokenise_texts_per_s"] = len(texts) / (time.perf_counter() - began)
    result["texts_per_s"] = {}
    for batch_tokens in (4096, 16384, 65536):
        with EdgeModel(
            bundle, device="cuda", truncate_prompt_tokens=-1, max_batch_tokens=batch_tokens
        ) as model:
            result["texts_per_s"][batch_tokens] = throughput(lambda t, m=model: m.embed(t).numpy(), texts)
    result["torch_fp16_sdpa_texts_per_s"] = {
        f"{b}x{s}": torch_rate((b, s)) for b, s in ((256, 64), (1024, 64))
    }
    result["refusals"] = {}
    for device in ("cuda:77", ["cuda:0", "cuda:0"], ["cuda:0", "cpu"]):
        result["refusals"][str(device)] = refusal(lambda d=device: EdgeModel(bundle, device=d))
    result["refusals"]["max_batch_tokens=2**31"] = refusal(
        lambda: EdgeModel(bundle, device="cuda", max_batch_tokens=2**31)
    )
    limits = {"max_batch_tokens": 500_000, "device_memory_bytes": 300_000_000}
    with EdgeModel(bundle, device="cuda", truncate_prompt_tokens=-1, **limits) as model:
        result["out_of_memory"] = refusal(lambda: model.embed(["word " * 250] * 2000))
        # the arena keeps the pieces it has, so only a small batch is sure to fit again
        few = model.embed(texts[:2]).numpy()
        result["after_out_of_memory_cosine_min"] = float((few * expected[:2]).sum(1).min())
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
