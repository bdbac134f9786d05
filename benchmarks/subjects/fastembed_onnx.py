"""fastembed with the bundle's own graph as a custom model; its truncation raised from the tokenizer's 128 to 256."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

PACKAGES = ("fastembed", "onnxruntime", "tokenizers")


def load(job):
    import numpy as np
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    # fastembed reads one folder: the checkpoint's tokenizer files and the bundle's graph
    folder = Path(tempfile.mkdtemp(prefix="fastembed-"))
    for name in ("config.json", "special_tokens_map.json", "tokenizer_config.json"):
        shutil.copy(Path(job["checkpoint"]) / name, folder)
    shutil.copy(Path(job["bundle"]) / "tokenizer.json", folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config | {"model_max_length": 256, "max_length": 256})
    )
    (folder / "onnx").symlink_to(Path(job["bundle"]).resolve() / "onnx")
    TextEmbedding.add_custom_model(
        model="local/all-MiniLM-L6-v2",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="local/all-MiniLM-L6-v2"),
        dim=384,
        model_file="onnx/model.onnx",
        additional_files=["onnx/model.onnx_data"],
    )
    model = TextEmbedding("local/all-MiniLM-L6-v2", specific_model_path=str(folder), threads=job["threads"])
    # 32 is faster here than its default of 256
    return lambda texts: np.stack(list(model.embed(texts, batch_size=32)))
