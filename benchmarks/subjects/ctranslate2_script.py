"""A careful script around CTranslate2's encoder: length-sorted batches, pooling in numpy."""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.sorting import embed_sorted, open_tokenizer, pool

PACKAGES = ("ctranslate2", "tokenizers")
BATCH_TOKENS = 2048


def prepare(job):
    from ctranslate2.converters import TransformersConverter

    quantization = "int8" if job["precision"] == "int8" else None
    source = job["checkpoint"]
    if job["kind"] == "cross-encoder":
        source = _without_head(job)
    TransformersConverter(source).convert(job["prepared"], quantization=quantization, force=True)


def _without_head(job):
    """The encoder as CTranslate2 reads it, with its pooler, and the classifier beside it."""
    import numpy as np
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = Path(job["prepared"]).with_name(f"{job['subject']}-encoder")
    model = AutoModelForSequenceClassification.from_pretrained(job["checkpoint"])
    model.bert.save_pretrained(folder)
    AutoTokenizer.from_pretrained(job["checkpoint"]).save_pretrained(folder)
    head = model.classifier
    np.savez(_head(job), weight=head.weight.detach().numpy(), bias=head.bias.detach().numpy())
    return str(folder)


def _head(job):
    return Path(job["prepared"]).with_name(f"{job['subject']}-head.npz")


def files(job):
    return [Path(job["checkpoint"]) / "tokenizer.json", Path(job["prepared"]) / "model.bin"]


def load(job):
    import numpy as np

    tokenizer, encoder = open_tokenizer(job), _open(job)

    def run(token_ids, attention_mask, _token_type_ids):
        found = encoder.forward_batch(_rows(token_ids, attention_mask))
        return pool(np.asarray(found.last_hidden_state), attention_mask)

    return lambda texts: embed_sorted(tokenizer, texts, run, BATCH_TOKENS)


def load_pairs(job):
    import numpy as np

    tokenizer, encoder = open_tokenizer(job), _open(job)
    head = dict(np.load(_head(job)))

    def run(token_ids, attention_mask, token_type_ids):
        types = _rows(token_type_ids, attention_mask)
        found = encoder.forward_batch(_rows(token_ids, attention_mask), token_type_ids=types)
        return np.asarray(found.pooler_output) @ head["weight"].T + head["bias"]

    return lambda query, documents: embed_sorted(
        tokenizer, [(query, document) for document in documents], run, BATCH_TOKENS
    )[:, 0]


def _open(job):
    import ctranslate2

    return ctranslate2.Encoder(
        job["prepared"],
        device="cpu",
        compute_type=job["precision"],
        inter_threads=1,
        intra_threads=job["threads"],
    )


def _rows(array, attention_mask):
    lengths = attention_mask.sum(axis=1)
    return [row[:length].tolist() for row, length in zip(array, lengths, strict=True)]
