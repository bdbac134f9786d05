"""sentence-transformers on torch float32: the reference. It sorts by length itself and batches 32 texts."""

from __future__ import annotations

PACKAGES = ("sentence-transformers", "transformers", "torch")


def load(job):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(job["threads"])
    model = SentenceTransformer(job["checkpoint"], device="cpu")
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)
