"""A careful script around CTranslate2's encoder: length-sorted batches, pooling in numpy."""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.sorting import embed_sorted, open_tokenizer, pool

PACKAGES = ("ctranslate2", "tokenizers")
BATCH_TOKENS = 2048


def prepare(job):
    from ctranslate2.converters import TransformersConverter

    quantization = "int8" if job["precision"] == "int8" else None
    TransformersConverter(job["checkpoint"]).convert(job["prepared"], quantization=quantization, force=True)


def files(job):
    return [Path(job["checkpoint"]) / "tokenizer.json", Path(job["prepared"]) / "model.bin"]


def load(job):
    import ctranslate2
    import numpy as np

    tokenizer = open_tokenizer(job)
    encoder = ctranslate2.Encoder(
        job["prepared"],
        device="cpu",
        compute_type=job["precision"],
        inter_threads=1,
        intra_threads=job["threads"],
    )

    def run(token_ids, attention_mask):
        lengths = attention_mask.sum(axis=1)
        rows = [row[:length].tolist() for row, length in zip(token_ids, lengths, strict=True)]
        return pool(np.asarray(encoder.forward_batch(rows).last_hidden_state), attention_mask)

    return lambda texts: embed_sorted(tokenizer, texts, run, BATCH_TOKENS)
