"""fastembed with optimum's plain trace as a custom model; its truncation raised from the tokenizer file's 128."""

from __future__ import annotations

import json
from pathlib import Path

PACKAGES = ("fastembed", "onnxruntime", "tokenizers")


def prepare(job):
    """One folder as fastembed expects it: the checkpoint's tokenizer files and the graph."""
    from transformers import AutoTokenizer

    from benchmarks.subjects.onnxruntime_script import trace

    folder = Path(job["prepared"])
    trace(job, folder / "onnx")
    AutoTokenizer.from_pretrained(job["checkpoint"]).save_pretrained(folder)
    (folder / "onnx" / "config.json").rename(folder / "config.json")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    limits = {"model_max_length": job["max_tokens"], "max_length": job["max_tokens"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | limits))


def files(job):
    folder = Path(job["prepared"])
    return [folder / "tokenizer.json", *folder.glob("onnx/model.onnx*")]


def load(job):
    import numpy as np
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    folder = Path(job["prepared"])
    TextEmbedding.add_custom_model(
        model="local/model",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="local/model"),
        dim=json.loads((folder / "config.json").read_text())["hidden_size"],
        model_file="onnx/model.onnx",
        additional_files=_data(folder),
    )
    model = TextEmbedding("local/model", specific_model_path=str(folder), threads=job["threads"])
    model.model.tokenizer.enable_truncation(job["max_tokens"])
    # 32 is faster here than its default of 256, which puts texts of all lengths in one batch
    return lambda texts: np.stack(list(model.embed(texts, batch_size=32)))


def load_pairs(job):
    import numpy as np
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    folder = Path(job["prepared"])
    TextCrossEncoder.add_custom_model(
        model="local/model",
        sources=ModelSource(hf="local/model"),
        model_file="onnx/model.onnx",
        additional_files=_data(folder),
    )
    model = TextCrossEncoder("local/model", specific_model_path=str(folder), threads=job["threads"])
    model.model.tokenizer.enable_truncation(job["max_tokens"])
    return lambda query, documents: np.asarray(list(model.rerank(query, documents, batch_size=32)))


def _data(folder):
    return [f"onnx/{file.name}" for file in folder.glob("onnx/model.onnx_data")]
