"""embedge, as a program would use it."""

from __future__ import annotations

import json
from pathlib import Path

PACKAGES = ("embedge", "onnxruntime", "tokenizers", "numpy")


def files(job):
    bundle = Path(job["bundle"])
    variants, name = json.loads((bundle / "manifest.json").read_text())["variants"], job["options"]["variant"]
    if name not in variants:
        reason = bundle.with_name("refused.txt")
        raise SystemExit(reason.read_text() if reason.is_file() else f"the bundle has no {name}")
    variant = variants[name]
    return [
        bundle / "tokenizer.json",
        bundle / variant["file"],
        *(bundle / f for f in variant.get("data_files", ())),
    ]


def load(job):
    model = _open(job)
    return lambda texts: model.embed(texts).numpy()


def load_pairs(job):
    from embedge import PoolingParams

    model, raw = _open(job), PoolingParams(use_activation=False)
    return lambda query, documents: model.score(query, documents, pooling_params=raw).numpy()


def load_stream(job):
    """A function from any number of texts to their vectors, one after the other."""
    model = _open(job)
    return lambda texts: (answer.outputs.data for answer in model.stream(texts))


def _open(job):
    from embedge import EdgeModel

    return EdgeModel(
        job["bundle"],
        variant=job["options"]["variant"],
        device="cpu",
        threads=job["threads"],
        max_model_len=job["max_tokens"],
        truncate_prompt_tokens=-1,
    )
