"""sentence-transformers on torch; in float32 it is the reference. It sorts by length itself and batches 32 texts."""

from __future__ import annotations

from pathlib import Path

PACKAGES = ("sentence-transformers",)


def files(job):
    return [Path(job["checkpoint"]) / name for name in ("model.safetensors", "tokenizer.json")]


def load(job):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(job["threads"])
    model = SentenceTransformer(
        job["checkpoint"], device="cpu", model_kwargs={"dtype": getattr(torch, job["precision"])}
    )
    model.max_seq_length = job["max_tokens"]
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)
