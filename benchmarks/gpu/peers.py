"""What others do on the same card: torch float16 with SDPA, sentence-transformers, a traced graph in onnxruntime."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu.models import SIZES, feeds
from benchmarks.gpu.timing import percentiles_ms, seconds_per_run


def load_torch(folder: Path, half: bool, attention: str = "sdpa"):
    """The checkpoint in torch on the first GPU."""
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation=attention)
    return model.eval().to("cuda", torch.float16 if half else torch.float32)


def mean_pooled(model, batch) -> object:
    """Mean over the real tokens in float32, as sentence-transformers pools."""
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def reference(folder: Path, batches: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """Mean-pooled float32 rows of torch, without TF32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    model = load_torch(folder, half=False)
    with torch.inference_mode():
        return [
            mean_pooled(model, {key: torch.from_numpy(value).cuda() for key, value in batch.items()})
            .cpu()
            .numpy()
            for batch in batches
        ]


def torch_rates(
    folder: Path, shapes: list[tuple[int, int]], *, masked: bool = False
) -> dict[str, dict[str, float]]:
    """Device-only tokens a second of torch float16 with SDPA; padding of the ragged batch is not counted.

    Args:
        folder: the checkpoint.
        shapes: (batch, tokens).
        masked: measure also with one token masked, as transformers drops a mask that masks nothing.

    Returns:
        Rates by shape as "rates", and as "masked".
    """
    import torch

    model = load_torch(folder, half=True)

    def rate(host: dict[str, np.ndarray]) -> float:
        batch = {key: torch.from_numpy(value).cuda() for key, value in host.items()}
        seconds = seconds_per_run(lambda: mean_pooled(model, batch), torch.cuda.synchronize)
        return float(host["attention_mask"].sum()) / seconds

    def one_masked(host: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        host["attention_mask"][0, -1] = 0
        return host

    made: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        made["rates"] = {f"{rows}x{size}": rate(feeds(rows, size)) for rows, size in shapes}
        made["rates"]["ragged"] = rate(feeds(256, 128, ragged=True))
        if masked:
            made["masked"] = {f"{rows}x{size}": rate(one_masked(feeds(rows, size))) for rows, size in shapes}
    return made


def ceiling(name: str) -> dict[str, float]:
    """Half-precision matrix products of torch in TFLOP/s: a large one, and those of the model at 32,768 tokens."""
    import torch

    size = SIZES[name]
    rates = {}
    for rows, inner, columns in (
        (8192, 8192, 8192),
        (32768, size.hidden, size.hidden),
        (32768, size.hidden, 3 * size.hidden),
        (32768, size.hidden, 4 * size.hidden),
        (32768, 4 * size.hidden, size.hidden),
    ):
        a = torch.randn(rows, inner, device="cuda", dtype=torch.float16)
        b = torch.randn(inner, columns, device="cuda", dtype=torch.float16)
        seconds = seconds_per_run(lambda a=a, b=b: a @ b, torch.cuda.synchronize, 0.4)
        rates[f"{rows}x{inner}x{columns}"] = 2e-12 * rows * inner * columns / seconds
    return rates


def sentence_transformers(folder: Path, texts: list[str]) -> dict:
    """Text to vectors in float16, and the time of one query."""
    from importlib.metadata import version

    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cuda").half()
    best: dict = {}

    def rate(some: list[str], batch_size: int) -> tuple[float, np.ndarray]:
        torch.cuda.synchronize()
        began = time.perf_counter()
        rows = model.encode(some, batch_size=batch_size, normalize_embeddings=True)
        return len(some) / (time.perf_counter() - began), rows

    rate(texts[:4096], 128)
    tried = {size: rate(texts[: len(texts) // 6], size)[0] for size in (128, 512)}
    batch_size = max(tried, key=tried.__getitem__)
    texts_per_s, rows = rate(texts, batch_size)
    best |= {"texts_per_s": texts_per_s, "batch_size": batch_size}
    queries = [" ".join(text.split()[:12]) for text in texts[:400]]
    return best | {
        "query_ms": percentiles_ms(lambda i: model.encode(queries[i % 400], normalize_embeddings=True), 200),
        "version": version("sentence-transformers"),
        "first_rows": np.asarray(rows[:64], dtype=np.float32).tolist(),
    }


def traced(folder: Path) -> bytes:
    """The float16 graph that torch traces, mean pooling in it: what a general exporter makes."""
    import torch

    model = load_torch(folder, half=True, attention="eager")

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            batch = {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
            }
            return mean_pooled(self.model, batch).float()

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.from_numpy(feeds(2, 16)[name]).cuda() for name in names)
    target = io.BytesIO()
    torch.onnx.export(
        Pooled().eval(),
        example,
        target,
        input_names=names,
        output_names=["sentence_embedding"],
        dynamic_axes={name: {0: "batch_size", 1: "sequence_length"} for name in names},
        opset_version=17,
        dynamo=False,
    )
    return target.getvalue()
