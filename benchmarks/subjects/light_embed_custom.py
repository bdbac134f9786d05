"""light-embed on optimum's plain trace, with the checkpoint's pooling; truncated as the case says.

It has no setting for threads, and takes every core.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects import fastembed_custom

PACKAGES = ("light-embed", "onnxruntime", "tokenizers")


def prepare(job):
    fastembed_custom.prepare(job)


def files(job):
    return fastembed_custom.files(job)


def load(job):
    from light_embed import TextEmbedding

    folder = Path(job["prepared"])
    config = {"onnx_file": "onnx/model.onnx", "pooling_mode": "mean", "normalize": True}
    model = TextEmbedding(str(folder), model_config=config, device="cpu")
    model.tokenizer.tokenizer.enable_truncation(job["max_tokens"])
    return lambda texts: model.encode(texts, batch_size=32)
