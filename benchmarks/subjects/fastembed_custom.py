"""fastembed with the bundle's graph as a custom model; its truncation raised from the tokenizer file's 128 to 256."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

PACKAGES = ("fastembed",)


def prepare(job):
    """One folder as fastembed expects it: the checkpoint's tokenizer files and the bundle's graph."""
    folder = Path(job["prepared"])
    for name in ("config.json", "special_tokens_map.json", "tokenizer.json"):
        shutil.copy(Path(job["checkpoint"]) / name, folder)
    config = json.loads((Path(job["checkpoint"]) / "tokenizer_config.json").read_text())
    limits = {"model_max_length": job["max_tokens"], "max_length": job["max_tokens"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | limits))
    shutil.copytree(Path(job["bundle"]) / "onnx", folder / "onnx")


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
        additional_files=[f"onnx/{file.name}" for file in folder.glob("onnx/model.onnx_data")],
    )
    model = TextEmbedding("local/model", specific_model_path=str(folder), threads=job["threads"])
    # 32 is faster here than its default of 256, which puts texts of all lengths in one batch
    return lambda texts: np.stack(list(model.embed(texts, batch_size=32)))
