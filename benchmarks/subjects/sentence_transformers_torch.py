"""sentence-transformers on torch; in float32 it is the reference. It sorts by length itself and batches 32 texts."""

from __future__ import annotations

from pathlib import Path

PACKAGES = ("sentence-transformers", "torch", "transformers")


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


def load_pairs(job):
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(job["threads"])
    model = CrossEncoder(
        job["checkpoint"],
        device="cpu",
        max_length=job["max_tokens"],
        model_kwargs={"dtype": getattr(torch, job["precision"])},
    )
    return lambda query, documents: logits(model, query, documents)


def logits(model, query, documents):
    """A CrossEncoder's scores of one query's documents before their activation."""
    import torch

    return model.predict(
        [(query, document) for document in documents],
        batch_size=32,
        activation_fn=torch.nn.Identity(),
        show_progress_bar=False,
    )
